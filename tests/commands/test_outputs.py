"""Commands write nowhere that the pipeline owns, and over nothing that they did not make."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.commands.outputs import Made, check_output, results_folder
from regroup.errors import RegroupError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose data lies on another disk, with an output that only its lock file names."""
    root, disk = tmp_path / "project", tmp_path / "disk"
    for folder in (root / "runs/mini", root / "reports", root / "made", root / "added", disk):
        folder.mkdir(parents=True)
    (root / "data").symlink_to(disk)
    (root / "shortcut").symlink_to(root / "runs")
    (root / "dvc.yaml").write_text("stages: {}\n")
    (root / "dvc.lock").write_text("stages:\n  one:\n    outs:\n    - path: made/here\n      md5: x\n")
    (root / "added.dvc").write_text("outs: []\n")
    monkeypatch.chdir(root)
    return root


@pytest.mark.parametrize(
    "out",
    [
        "data", "data/mini/x", "runs/mini/original", "reports/mini/sweep", "./reports/../reports", ".dvc/tmp",
        "shortcut/mini", "../disk/mini", "made/here", "made/here/below", "added", "added/x", "pretrain/x",
    ],
)  # fmt: skip
def test_what_the_pipeline_owns_is_refused(project: Path, out: str) -> None:
    before = sorted(project.parent.rglob("*"))
    for name in (Path(out), project / out):
        with pytest.raises(RegroupError, match=r"--out: .* belongs to the pipeline; name a folder outside"):
            check_output(name)
    assert sorted(project.parent.rglob("*")) == before


@pytest.mark.parametrize("out", ["out/sweep/mini/original", "made", "elsewhere", "../outside/a/b", "."])
def test_other_places_are_free_and_nothing_is_left_there(project: Path, out: str) -> None:
    before = sorted(project.parent.rglob("*"))
    check_output(Path(out))
    assert sorted(project.parent.rglob("*")) == before


@pytest.mark.parametrize("out", ["file", "file/below", "loop/x"])
def test_a_file_in_the_way_is_refused(project: Path, out: str) -> None:
    (project / "file").write_text("mine")
    (project / "loop").symlink_to("loop")
    with pytest.raises(RegroupError, match="is a file, but a folder is needed"):
        check_output(Path(out))
    assert (project / "file").read_text() == "mine"


def test_results_are_called_after_the_whole_checkpoint(project: Path) -> None:
    (project / "noise-0.5").mkdir()
    (project / "model.v2.pth").write_bytes(b"")
    assert results_folder("sweep", "mini", Path("noise-0.5")) == Path("out/sweep/mini/noise-0.5")
    assert results_folder("sweep", "mini", Path("model.v2.pth")) == Path("out/sweep/mini/model.v2")
    assert results_folder("sweep", "mini", Path()) == Path("out/sweep/mini/project")


def test_own_files_are_made_again_and_all_others_stay(tmp_path: Path) -> None:
    made = Made(tmp_path, "segment")
    made.write([("a.json", b"first"), ("caf\udce9.json", b"x")])
    Made(tmp_path, "segment").check(["a.json", "caf\udce9.json", "new.json"])
    Made(tmp_path, "segment").write([("a.json", b"second")])
    Made(tmp_path, "segment").check(["a.json"])
    with pytest.raises(RegroupError, match=r"files that `regroup sweep` did not make.*: a.json"):
        Made(tmp_path, "sweep").check(["a.json"])
    (tmp_path / "a.json").write_bytes(b"edited")
    (tmp_path / "b.json").write_bytes(b"foreign")
    (tmp_path / "c.json").symlink_to("nowhere")
    for name in ("a.json", "b.json", "c.json"):
        with pytest.raises(RegroupError, match=name):
            Made(tmp_path, "segment").check([name])
    with pytest.raises(RegroupError, match=r"a.json, b.json, c.json"):
        Made(tmp_path, "segment").check_all()


def test_a_kill_between_record_and_file_or_within_a_line_blocks_nothing(tmp_path: Path) -> None:
    made = Made(tmp_path, "segment")
    made.write([("a.json", b"first")])
    made.add([("a.json", b"second")])  # killed here: the file still is the first
    with (tmp_path / ".made-by-regroup").open("ab") as record:
        record.write(b'{"by": "segment", "na')
    again = Made(tmp_path, "segment")
    again.check(["a.json"])
    again.write([("b.json", b"new")])
    Made(tmp_path, "segment").check(["a.json", "b.json"])


def test_results_that_fail_half_way_replace_nothing(tmp_path: Path) -> None:
    made = Made(tmp_path / "out", "sweep")
    with made.written() as folder:
        (folder / "sweep.csv").write_text("whole")
    with pytest.raises(FileNotFoundError), Made(tmp_path / "out", "sweep").written() as folder:
        (folder / "sweep.csv").write_text((folder / "nowhere").read_text())
    assert (tmp_path / "out/sweep.csv").read_text() == "whole"
    Made(tmp_path / "out", "sweep").check_all()
