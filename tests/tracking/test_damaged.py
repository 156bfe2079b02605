"""What a kill, a full disk or somebody's hand leaves: it costs itself, never the other runs."""

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.tracking.check import check
from regroup.tracking.publish import _words, publish

from .tracked import client, lock, md5, runs, stage


def run_two(root: Path) -> Path:
    """Two runs that wait; returns the journal of the first."""
    for name in ("nouns", "shards"):
        with stage(root, name) as run:
            run.log_metrics({"loss": 1.0}, step=0)
            run.log_metrics({"loss": 0.5}, step=1)
    return min((root / ".state/tracking").glob("*/journal.jsonl"))


def waiting(root: Path) -> list[str]:
    return [path.name for path in (root / ".state/tracking").iterdir() if path.name[0].isdigit()]


def replace_line(number: int, text: bytes) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        lines = content.splitlines(keepends=True)
        return b"".join([*lines[:number], text + b"\n", *lines[number + 1 :]])

    return change


METRICS = {"event": "metrics", "time": 1, "step": 1, "values": {"loss": 1}}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\0\0\0garbage}", "is not JSON"),
        (b"\xff\xfe}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"", "is not JSON"),
        (b"[1]", "is none of start, metrics, end"),
        (b'{"event": "photograph", "time": 1}', "is none of start, metrics, end"),
        (b'{"event": ["metrics"]}', "is none of start, metrics, end"),
        (json.dumps(METRICS | {"step": 1.5}).encode(), "has no proper `step`"),
        (json.dumps(METRICS | {"step": 2**70}).encode(), "has no proper `step`"),
        (json.dumps(METRICS | {"time": None}).encode(), "has no proper `time`"),
        (json.dumps(METRICS | {"values": {"loss": "low"}}).encode(), "has no proper `values`"),
        (json.dumps(METRICS | {"values": [0.1]}).encode(), "has no proper `values`"),
    ],
)
def test_a_damaged_line_is_named_and_set_aside_and_the_rest_is_recorded(
    root: Path, capsys: pytest.CaptureFixture[str], line: bytes, reason: str
) -> None:
    journal = run_two(root)
    journal.write_bytes(replace_line(2, line)(journal.read_bytes()))
    assert publish(root) == 2
    assert "nouns: 1 damaged line(s) of its journal are set aside" in (said := capsys.readouterr().err)
    assert f"line 3 {reason}" in said
    first, second = runs(root)
    assert (first.info.status, first.data.metrics["loss"]) == ("FINISHED", 1.0)
    assert first.data.tags["damaged_lines"] == "1"
    assert (second.info.status, second.data.metrics["loss"]) == ("FINISHED", 0.5)
    assert (root / ".state/tracking/damaged" / f"{journal.parent.name}.lines").read_bytes() == line + b"\n"
    assert not waiting(root)
    publish(root)
    assert capsys.readouterr().err == ""


def test_a_damaged_end_is_not_told_as_a_kill(root: Path) -> None:
    journal = run_two(root)
    journal.write_bytes(replace_line(3, b"{")(journal.read_bytes()))
    publish(root)
    first, _ = runs(root)
    assert first.info.status == "KILLED"
    assert "the journal's end is damaged" in first.data.tags["error"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replace_line(0, b"\0\0"), "line 1 is not JSON"),
        (lambda _: b'{"event": "metrics", "time": 1, "step": 1, "values": {}}\n', "no line says what ran"),
        (lambda _: os.urandom(64).replace(b"\n", b"."), "is no journal"),
        (lambda text: text.replace(b'"format": 2', b'"format": 3'), "is of format 3; up to 2 is known"),
        (lambda text: text.replace(b'"stage": "nouns"', b'"stage": ""'), "has no proper `stage`"),
        (lambda text: text.replace(b'"inputs": []', b'"inputs": [1]'), "has no proper `inputs`"),
    ],
)
def test_a_journal_that_says_nothing_of_its_run_is_set_aside(
    root: Path, capsys: pytest.CaptureFixture[str], change: Callable[[bytes], bytes], reason: str
) -> None:
    journal = run_two(root)
    content = change(journal.read_bytes())
    journal.write_bytes(content)
    assert publish(root) == 1
    assert reason in capsys.readouterr().err
    assert [run.data.tags["stage"] for run in runs(root)] == ["shards"]
    assert (root / ".state/tracking/damaged" / journal.parent.name / "journal.jsonl").read_bytes() == content
    assert not waiting(root)


@pytest.mark.parametrize("rest", [b"", b'{"event": "start", "ti', b'{"event": "metr'])
def test_a_last_line_cut_short_is_what_a_kill_leaves(
    root: Path, capsys: pytest.CaptureFixture[str], rest: bytes
) -> None:
    journal = run_two(root)
    kept = b"" if rest.startswith(b'{"event": "s') or not rest else journal.read_bytes().splitlines(True)[0]
    journal.write_bytes(kept + rest)
    assert publish(root) == (2 if kept else 1)
    assert capsys.readouterr().err == ""
    assert [run.info.status for run in runs(root)] == (["KILLED"] if kept else []) + ["FINISHED"]
    assert not waiting(root)


def test_what_was_set_aside_before_stays(root: Path) -> None:
    journal = run_two(root)
    kept = root / ".state/tracking/damaged" / journal.parent.name
    shutil.copytree(journal.parent, kept)
    journal.write_bytes(b"nothing\n")
    assert publish(root) == 1
    assert (kept.with_name(f"{kept.name}.1") / "journal.jsonl").read_bytes() == b"nothing\n"
    assert b"nouns" in (kept / "journal.jsonl").read_bytes()


def test_folders_without_a_journal_go_when_they_are_old(root: Path) -> None:
    run_two(root)
    for number, age in enumerate((10, 100_000)):
        folder = root / f".state/tracking/{number}-0123abcd"
        folder.mkdir()
        os.utime(folder, (folder.stat().st_mtime - age,) * 2)
    assert publish(root) == 2
    assert waiting(root) == ["0-0123abcd"]


def test_values_that_are_not_finite_and_names_that_mlflow_refuses_are_recorded(root: Path) -> None:
    with stage(root) as run:
        values = {"nan": float("nan"), "inf": float("inf"), "../a//b": 1.0, ".": 2.0}
        run.log_metrics(values, step=0)
    publish(root)
    (found,) = runs(root)
    assert {"nan", "inf", "_/a/_/b", "_"} <= set(found.data.metrics)


def test_many_runs_that_are_refused_do_not_hold_up_the_others(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from regroup.tracking.store import Store

    for name in ("a", "b", "c", "d", "nouns"):
        with stage(root, name):
            pass
    write = Store.write

    def refuse(store: Store, journal: object) -> None:
        if len(journal.start["stage"]) == 1:
            raise ValueError("too short")
        write(store, journal)

    monkeypatch.setattr(Store, "write", refuse)
    assert publish(root) == 1
    assert "4 of 5 runs could not be recorded" in (said := capsys.readouterr().err)
    assert "a: ValueError: too short" in said


def test_a_deleted_experiment_is_restored(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stage(root, "nouns"):
        pass
    publish(root)
    client(root).delete_experiment(client(root).get_experiment_by_name("study").experiment_id)
    with stage(root, "shards"):
        pass
    assert publish(root) == 1
    assert "the experiment `study` was deleted; it is restored" in capsys.readouterr().err
    assert [run.data.tags["stage"] for run in runs(root)] == ["nouns", "shards"]


@pytest.mark.parametrize("whose", ["stage", "pipeline"])
def test_a_run_that_is_deleted_while_its_stage_goes_on_is_made_again(root: Path, whose: str) -> None:
    with stage(root) as run:
        run.log_metrics({"loss": 3.0}, step=0)
        run._file.flush()
        publish(root)
        client(root).delete_run(runs(root, f"tags.kind = '{whose}'")[0].info.run_id)
        run.log_metrics({"loss": 2.0}, step=1)
    assert publish(root) == 1
    (found,) = runs(root)
    assert (found.info.status, found.data.metrics["loss"]) == ("FINISHED", 2.0)
    assert runs(root, "tags.kind = 'pipeline'")


@pytest.mark.parametrize("note", ["", "{", "[1]", '["no such run", 2]', '{"a": 1}'])
def test_a_damaged_note_of_what_is_published_does_not_hold_up_the_run(root: Path, note: str) -> None:
    journal = run_two(root)
    (journal.parent / "published.json").write_text(note)
    assert publish(root) == 2
    assert [run.data.metrics["loss"] for run in runs(root)] == [0.5, 0.5]


def test_quotes_in_the_name_of_a_pipeline_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROUP_PIPELINE_RUN", 'it\'s "monday"')
    for name in ("nouns", "shards"):
        with stage(root, name):
            pass
        assert publish(root) == 1
    (parent,) = runs(root, "tags.kind = 'pipeline'")
    assert parent.data.tags["pipeline_run"] == 'it_s "monday"'


def test_a_folder_that_may_not_be_written_is_a_warning(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_two(root)
    (root / ".state/tracking/publisher.lock").mkdir()
    assert publish(root) == 0
    assert "they are kept in .state/tracking" in capsys.readouterr().err


def test_what_is_nowhere_is_not_kept(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("here.txt", "changed.txt", "cached.txt", "lost.txt"):
        (root / name).write_text(name)
    (root / "folder").mkdir()
    (root / "folder/a.txt").write_text("a")
    digests = {path.name: md5(path) for path in root.glob("*.txt")}
    listing = json.dumps([{"md5": md5(root / "folder/a.txt"), "relpath": "a.txt"}]).encode()
    cache = root / ".dvc/cache/files/md5"
    for content in (b"cached.txt", listing):
        import hashlib

        digest = hashlib.md5(content).hexdigest()
        suffix = ".dir" if content == listing else ""
        (cache / digest[:2]).mkdir(parents=True, exist_ok=True)
        (cache / digest[:2] / f"{digest[2:]}{suffix}").write_bytes(content)
        if suffix:
            digests["folder"] = digest + suffix
    shutil.rmtree(root / "folder")
    for name in ("cached.txt", "lost.txt"):
        (root / name).unlink()
    (root / "changed.txt").write_text("another")
    lock(root, digests)
    with stage(root, "nouns"):
        pass
    publish(root)
    assert check(root, Path("params.yaml")) == 1
    said = capsys.readouterr()
    assert "5 outputs in dvc.lock: 0 made by a run in MLflow, 2 kept" in said.out
    missing = [line.split(": ")[1].split(" ")[0] for line in said.err.splitlines()]
    assert missing == ["changed.txt", "folder", "lost.txt"]  # the folder's listing is there, its file is not
    (root / "here.txt").unlink()
    assert check(root, Path("params.yaml")) == 1
    assert "neither in the folder nor in DVC's cache: here.txt" in capsys.readouterr().err


def test_of_a_wrapped_database_error_the_database_s_own_words_are_said() -> None:
    inner = RuntimeError("(Background on this error)")
    inner.orig = sqlite3.OperationalError("database is locked")
    outer = RuntimeError("(Background on this error)\n[SQL: ...]")
    outer.__cause__ = inner
    assert _words(outer) == "OperationalError: database is locked"
    assert _words(ValueError("one\ntwo")) == "ValueError: one two"


def test_runs_noted_for_a_store_that_is_none_are_one_warning_with_a_way_out(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    run_two(root)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert publish(root) == 0
    said = capsys.readouterr().err
    assert said.startswith(
        "warning: 2 run(s) could not be recorded (nouns, shards): MLflow tracking URI './mlruns'"
    )
    assert said.count("\n") == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")  # as the warning says
    assert publish(root) == 2
    assert waiting(root) == []
