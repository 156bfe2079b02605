"""Stages scheduled by Snakemake: what runs, what does not, and what DVC thinks of it afterwards."""

import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from regroup.journal import TrackingParams, track_stage

from .toy_project import Project, everything

NOTHING = "Nothing to be done"


def test_every_rule_runs_its_own_stage(project: Project) -> None:
    project.forget()
    plan = project.snakemake("--dry-run", "--printshellcmds")
    commands = re.findall(r"safe_dvc.py --wait-for-lock repro --single-item (\S+) &> (\S+)", plan)
    expected = {name.replace("-", "@") for name in everything()}
    assert {target for target, _ in commands} == expected
    assert {Path(log).stem for _, log in commands} == expected
    assert len(commands) == len(expected)


def test_after_dvc_snakemake_has_nothing_to_do_and_the_other_way_round(project: Project) -> None:
    assert NOTHING in project.snakemake("--dry-run")
    before, lock = project.outputs(), project.lock()
    project.forget()
    project.snakemake()
    assert project.worked() == everything()
    assert project.outputs() == before
    assert project.lock() == lock
    assert NOTHING in project.snakemake("--dry-run")
    assert "Data and pipelines are up to date" in project.dvc("repro")
    assert project.worked() == []


def test_only_what_changed_runs_again_and_each_run_has_its_name(project: Project) -> None:
    project.set_param("items: {a: 1, b: 20}")
    project.snakemake()
    (first,) = {run for kind, _, _, run in project.trace() if kind == "start"}
    assert project.worked() == ["join", "one-b", "two-b"]
    assert b"20\n" in project.outputs()["join.txt"]
    assert "Data and pipelines are up to date" in project.dvc("repro")
    project.set_param("items: {a: 1, b: 30}")
    project.snakemake("one_b")
    (second,) = {run for kind, _, _, run in project.trace() if kind == "start"}
    assert project.worked() == ["one-b"]
    assert len({"", first, second}) == 3


def test_what_the_cache_holds_is_restored_without_running(project: Project) -> None:
    before = project.outputs()
    for name in ("two-b.txt", "join.txt"):
        (project.root / "data/mini" / name).unlink()
    project.snakemake()
    assert project.worked() == []
    assert project.outputs() == before


def test_a_failed_stage_shows_its_log_and_the_next_run_goes_on_from_there(project: Project) -> None:
    project.set_param("items: {a: 1, b: 20}")
    (project.root / "fail").write_text("two-b")
    shown = project.snakemake(check=False)
    assert "data/mini/two-b.txt: picture 7 is missing; put it back" in shown
    assert "Error in rule two_b" in shown
    assert project.worked() == ["one-b"]
    (project.root / "fail").unlink()
    project.snakemake()
    assert project.worked() == ["join", "two-b"]


def test_a_run_ends_with_mlflow_brought_up_to_date(project: Project) -> None:
    settings = TrackingParams(experiment="study", uri="http://127.0.0.1:9")  # nobody there
    with track_stage(
        "join", profile="mini", root=project.root, params={}, inputs=[], outputs=[], settings=settings
    ):
        pass
    project.environment["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    (project.root / "data/mini/join.txt").unlink()
    shown = project.snakemake()
    assert "1 of 1 runs could not be recorded at http://127.0.0.1:9" in shown


def test_every_rule_keeps_its_log(project: Project) -> None:
    project.set_param("items: {a: 1, b: 20}")
    project.snakemake("two_b")
    log = project.root / ".snakemake/dvc/two@b.log"
    assert "Running stage 'two@b'" in log.read_text()


def test_lint_finds_only_what_is_meant(project: Project) -> None:
    shown = project.snakemake("--lint", check=False)
    findings = set(re.findall(r"^    \* (.*):$", shown, re.MULTILINE))
    # the environment is one, pinned in requirements.lock, for both engines
    assert findings == {"Specify a conda environment or container for each rule."}


@pytest.mark.slow
def test_a_report_of_the_run_can_be_made(project: Project) -> None:
    project.set_param("items: {a: 1, b: 20}")
    project.snakemake()
    project.snakemake("--report", "report.html")
    text = (project.root / "report.html").read_text()
    assert "two_b" in text


def test_another_profile_by_name(project: Project) -> None:
    mini = project.outputs()
    project.set_param("items: {a: 10, b: 20}", profile="full")
    project.snakemake("two_b", "--config", "pipeline=full/dvc.yaml")
    assert project.worked() == ["one-b", "source", "two-b"]
    assert project.outputs() == mini
    assert "20\n" in (project.root / "data/full/two-b.txt").read_text()
    project.dvc("repro", "full/dvc.yaml:two@b")
    assert project.worked() == []


@pytest.mark.slow
def test_stages_run_side_by_side_and_dvc_lock_does_not_show_it(project: Project) -> None:
    project.set_param("seconds: 2")
    project.set_param("items: {a: 1, b: 2, c: 3, d: 4}")
    project.dvc("repro", "--quiet")
    before, lock = project.outputs(), project.lock()
    project.worked()
    project.forget()
    project.snakemake("--cores", "4")
    assert overlapping(project) >= 2
    assert project.worked() == everything("abcd")
    assert project.outputs() == before
    assert project.lock() == lock


def overlapping(project: Project) -> int:
    """The largest number of commands that ran at one time."""
    running = most = 0
    for kind, *_ in sorted(project.trace(), key=lambda line: line[2]):
        running += 1 if kind == "start" else -1
        most = max(most, running)
    return most


@pytest.fixture
def _nobody_reaps() -> Iterator[None]:
    """Orphans become this process's, which waits for none of them: zombies, as in many a container."""
    subreaper, prctl = 36, ctypes.CDLL(None).prctl
    prctl(subreaper, 1)
    yield
    prctl(subreaper, 0)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@pytest.mark.slow
@pytest.mark.usefixtures("_nobody_reaps")
def test_a_killed_run_goes_on_where_it_was(project: Project) -> None:
    project.set_param("seconds: 1")
    project.dvc("repro", "--quiet")
    project.worked()
    before, lock = project.outputs(), project.lock()
    project.forget()
    finished: list[str] = []
    for last in ("one-", "two-"):
        killed_when(project, last)
        finished += project.worked()
    project.snakemake()
    finished += project.worked()
    assert project.outputs() == before
    assert project.lock() == lock
    # a stage may have been killed between the end of its command and DVC's note of it, once a kill
    assert set(finished) == set(everything())
    assert len(finished) <= len(everything()) + 4


@pytest.mark.slow
def test_two_runs_in_one_clone_take_turns(project: Project) -> None:
    project.set_param("seconds: 3")
    project.set_param("items: {a: 1, b: 20}")
    shown = project.run_twice_at_once("snakemake", "--cores", "2", "one_b")
    assert project.worked() == ["one-b"]
    assert sum(NOTHING in text for text in shown) == 1, "".join(shown)


def killed_when(project: Project, output: str) -> None:
    """Run Snakemake, and kill everything it started as soon as an output of this name is made."""
    run = project.start("snakemake", "--cores", "2", start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while run.poll() is None and time.monotonic() < deadline:
        if (project.root / "trace.txt").exists() and f"/{output}" in (project.root / "trace.txt").read_text():
            break
        time.sleep(0.05)
    assert run.poll() is None
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()


def test_dvc_talks_to_nobody(project: Project, tmp_path: Path) -> None:
    """Neither itself nor by a process it leaves behind, which is how it would report its use."""
    (tmp_path / "sitecustomize.py").write_text(f"""
import socket, sys
def refuse(*address, **_):
    with open({str(tmp_path / "asked")!r}, "a") as file:
        file.write(f"{{sys.argv}} asked for {{address}}\\n")
    raise OSError("no network here")
socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = refuse
""")
    path = project.environment.get("PYTHONPATH", "")
    project.environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{path}"
    project.environment["DVC_DAEMON_LOGFILE"] = str(tmp_path / "left behind")
    project.set_param("items: {a: 1, b: 20}")
    project.dvc("repro", "two@b")
    assert project.worked() == ["one-b", "two-b"]
    assert not (tmp_path / "asked").exists()
    assert not (tmp_path / "left behind").exists()
