"""`regroup doctor`: what it finds, what it says to do, and its exit status."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from regroup import doctor
from regroup.cli import main
from regroup.sources.make import make_source
from regroup.sources.settings import SOURCES, WorldParams

from .thesis import enter_project

ROOT = Path(__file__).parents[1]
USAGE = namedtuple("USAGE", "total used free")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the default parameters and nothing else; the disk has 500 GB."""
    enter_project(tmp_path, monkeypatch, "requirements.lock", "full/params.yaml")
    (tmp_path / "pretrain/groupvit-mini").mkdir(parents=True)
    monkeypatch.setenv("COLUMNS", "200")
    free(monkeypatch, 500)
    return tmp_path


def free(monkeypatch: pytest.MonkeyPatch, gigabytes: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: USAGE(0, 0, gigabytes * 1e9))


def change(project: Path, profile: str, **sections: Any) -> None:
    """Set keys of a profile's sections."""
    path = project / profile / "params.yaml"
    yaml = YAML()
    document = yaml.load(path)
    for section, values in sections.items():
        document[section].update(values)
    yaml.dump(document, path)


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        main(["doctor", *words])
    output = capsys.readouterr().out
    assert all(len(line) <= 200 for line in output.splitlines())
    return int(left.value.code or 0), " ".join(output.split())


def test_mini_can_start_on_an_empty_machine(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(project.rglob("*"))
    status, said = ask(capsys)
    assert status == 0
    assert "profile mini" in said
    assert "data coco to get drawn by the stage" in said
    assert f"dvc ok {importlib.metadata.version('dvc')}" in said
    assert "about 0.3 GB needed, 500.0 GB free" in said
    assert said.endswith("nothing is missing: a run can start")
    assert sorted(project.rglob("*")) == before


def test_what_has_been_drawn_is_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make_source(
        "ade", "mini", Path("data/mini/raw/ade"), world=WorldParams(ade_train=1, ade_val=1)
    )
    assert f"ade ok drawn, {manifest.bytes / 1e6:.1f} MB in data/mini/raw/ade" in ask(capsys)[1]


def test_full_says_what_will_come_and_what_it_takes(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, said = ask(capsys, "--profile", "full")
    assert status == 0
    assert "data coco to get 21.1 GB to data/downloads/coco" in said
    assert "trainval_merged.json (size unknown) to data/downloads/context" in said
    assert "weights groupvit-gcc-yfcc to get 0.2 GB to data/downloads/weights" in said
    assert "group_vit_gcc_yfcc_30e-879422e0.pth comes with the stage `weights`" in said
    assert "coco: archives and what is in them" in said


def test_too_small_a_disk_is_missing(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 60)
    status, said = ask(capsys, "--profile", "full")
    assert status == 1
    assert "MISSING about" in said
    assert "60.0 GB free" in said
    assert said.endswith("1 missing: a run cannot start")


def test_what_came_before_a_cut_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = project / "data/downloads/ade/archives/ADEChallengeData2016.zip.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(5_000_000))
    said = ask(capsys, "--profile", "full")[1]
    assert "ade to get 1.0 GB to data/downloads/ade; 5.0 MB of it came before" in said


def test_data_of_your_own_is_found_or_missed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = project / "mine"
    for part in (*SOURCES.load("voc12").required, *SOURCES.load("voc12").optional):
        path = mine / part if "." in Path(part).name else mine / part / "a.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100_000))
    change(
        project,
        "full",
        sources={
            "voc12": {"kind": "download", "root": str(mine)},
            "ade": {"kind": "local", "root": str(mine)},
            "coco": {"kind": "download", "url": str(mine)},
        },
    )
    status, said = ask(capsys, "--profile", "full")
    assert status == 1
    assert f"voc12 ok 0.4 MB in {mine}" in said
    assert f"ade MISSING sources.ade.root: {mine} has no ADEChallengeData2016/annotations/validation" in said
    assert f"coco MISSING sources.coco.url: {mine} has no annotations_trainval2017.zip, val2017.zip" in said


def test_files_that_nothing_will_bring_are_missing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(project, "full", weights={"artefacts": []}, nouns={"tagger_path": None})
    status, said = ask(capsys, "--profile", "full")
    assert status == 1
    assert "checkpoint.path MISSING no such file data/full/weights/group_vit" in said
    assert "nouns.tagger_path MISSING not set" in said


def test_a_dataset_without_source_is_missing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "params.yaml"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("  ade: {kind")]
    path.write_text("\n".join(lines))
    status, said = ask(capsys)
    assert status == 1
    assert "evaluate.segmentation.datasets.ade MISSING its source ade is not under `sources`" in said


def test_a_missing_tool_and_another_version_are_said(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = importlib.metadata.version

    def version(name: str) -> str:
        if name == "snakemake":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "dvc" else installed(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    status, said = ask(capsys)
    assert status == 1
    assert "snakemake MISSING not installed; `make env`" in said
    assert f"dvc note 0.1; tested with {installed('dvc')}" in said


@pytest.mark.parametrize(("package", "state"), [("regroup.safe_dvc", "ok"), ("dvc.cli", "note")])
def test_whose_dvc_it_is_is_said(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    state: str,
) -> None:
    script = project / "bin/dvc"
    script.parent.mkdir()
    script.write_text(f"#!/usr/bin/python\nfrom {package} import main\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=os.pathsep)
    _, said = ask(capsys)
    assert f"dvc command {state} {script}" in said
    assert ("`rm .venv/.ready && make env`" in said) == (state == "note")


def test_a_graphics_card_is_asked_for_only_where_one_is_used(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "graphics_cards", list)
    assert "gpu ok none seen; this profile needs none" in ask(capsys)[1]
    status, said = ask(capsys, "--profile", "full")
    assert (
        status,
        "gpu note none seen, and finetune, evaluate, sweep, dissect, figures ask for one" in said,
    ) == (0, True)
    monkeypatch.setattr(doctor, "graphics_cards", lambda: ["H100, 80 GB"])
    assert "gpu ok H100, 80 GB" in ask(capsys, "--profile", "full")[1]


def test_no_profile_there(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--profile", "fulll"])
    assert left.value.code == 2
    assert (
        "--profile fulll: no params.yaml in it, so it is no profile; here there is full"
        in capsys.readouterr().err
    )


def start(project: Path) -> None:
    """Make the folder one that DVC works in."""
    (project / ".dvc").mkdir()
    (project / ".git").mkdir()


@pytest.mark.parametrize("place", ["data", "runs", "reports", "data/mini", "reports/mini/metrics", ".dvc"])
def test_a_link_that_dvc_would_refuse_is_said_before_work(
    project: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    start(project)
    assert ask(capsys)[0] == 0
    if place == ".dvc":
        (project / place).rmdir()
    (project / place).parent.mkdir(parents=True, exist_ok=True)
    (project / place).symlink_to(project / "disk")
    status, said = ask(capsys)
    assert status == 1
    assert f"project {place} MISSING is a link to {project}/disk" in said
    assert "mount --bind" in said
    assert said.endswith("1 missing: a run cannot start")


def test_other_links_are_no_matter(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(project)
    (project / "disk").mkdir()
    for place in (".dvc/cache", ".state"):
        (project / place).symlink_to(project / "disk")
    assert ask(capsys)[0] == 0


def test_an_archive_without_git_needs_a_word(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start(project)
    (project / ".git").rmdir()
    status, said = ask(capsys)
    assert status == 1
    assert "no git repository" in said
    (project / ".dvc/config.local").write_text("[core]\n    no_scm = true\n")
    assert ask(capsys)[0] == 0
