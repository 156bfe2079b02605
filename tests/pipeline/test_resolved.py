"""What reruns when a default, a title, a row or a parameter changes, in the real graph."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from regroup.dino.settings import DinoParams
from regroup.errors import RegroupError
from regroup.params import Params, load_params
from regroup.resolved import read_dino, read_run, resolve_dino, write_resolved
from regroup.settings import parse, read_yaml
from regroup.stage import Stage, run
from regroup.variants import load_variants
from tests.thesis import HERE, STUDY, copy_project

ROOT = Path(__file__).parents[2]
SOME = ("original", "ge", "ge-384", "batch-256")
WORK = """\
import sys
from pathlib import Path
with open("trace.txt", "a") as trace:
    trace.write(f"{sys.argv[1]}\\n")
for out in sys.argv[2:]:
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(sys.argv[1])
"""


class Project:
    """The stages resolve, dino and finetune, of which only the first does its work."""

    def __init__(self, root: Path) -> None:
        self.root = root
        bin_folder = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": bin_folder, "PYTHONPATH": str(root / "src")}

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.root / file
        text = path.read_text()
        assert text.count(old) == 1, (old, text.count(old))
        path.write_text(text.replace(old, new))

    def reproduce(self) -> set[str]:
        """What `dvc repro` ran."""
        command = [sys.executable, "-m", "dvc", "repro", "--quiet"]
        done = subprocess.run(command, cwd=self.root, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        trace = self.root / "trace.txt"
        found = trace.read_text().split() if trace.exists() else []
        trace.unlink(missing_ok=True)
        return set(found)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("src", "stages", "pretrain"):
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    shutil.copyfile(ROOT / "params.yaml", root / "params.yaml")
    (root / "work.py").write_text(WORK)
    variants = read_yaml(HERE.variants)["variants"]
    (root / STUDY.folder).mkdir(parents=True)
    YAML().dump({"variants": {name: variants[name] for name in SOME}}, root / STUDY.variants)
    graph = read_yaml(ROOT / "dvc.yaml")
    stages = {name: graph["stages"][name] for name in ("resolve", "dino", "finetune")}
    stages["dino"]["cmd"] = "python work.py features data/${name}/dino/made"
    stages["finetune"]["do"]["cmd"] = (
        "python work.py ${key} runs/${name}/${key}/made reports/${name}/curves/${key}.csv"
    )
    YAML().dump({"vars": graph["vars"], "stages": stages}, root / "dvc.yaml")
    for folder in ("shards", "captions", "weights"):
        (root / "data/mini" / folder).mkdir(parents=True)
        (root / "data/mini" / folder / "some").write_text(folder)
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text(
        "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    )
    return Project(root)


@pytest.mark.slow
def test_only_what_a_change_changes_is_run_again(project: Project) -> None:
    assert project.reproduce() == {*SOME, "features"}
    project.edit("studies/thesis/variants.yaml", "title: Group entropy (GE)\n", "title: Another\n")
    project.edit("studies/thesis/variants.yaml", "row: batch_256", "row: batch_512")
    assert project.reproduce() == set()
    # `batch-256` says for how long it trains, and nothing of `original` is trained; params.yaml has all of
    # the augmentation of fine-tuning, but not the stand-in's
    project.edit(
        "src/regroup/variants.py", "epochs: int = Field(default=30", "epochs: int = Field(default=31"
    )
    project.edit("src/regroup/training/settings.py", "Ratios = (3 / 4, 4 / 3)", "Ratios = (1 / 2, 2)")
    assert project.reproduce() == {"ge", "ge-384", "features"}
    project.edit("params.yaml", "{224: 64, 384: 112}", "{224: 64, 384: 128}")
    assert project.reproduce() == {"ge-384"}


def params(**changed: Any) -> Params:
    values = read_yaml(ROOT / "params.yaml")
    for key, value in changed.items():
        values[key].update(value)
    return parse(Params, values, Path("params.yaml"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_written_is_what_a_run_gets(folder: Path) -> None:
    known, variants = load_params(ROOT / "params.yaml"), load_variants(HERE.variants)
    written = write_resolved(known, variants, known.layout)
    assert len(written) == 2 * len(variants) + 1
    for name, variant in variants.items():
        run = read_run(known.layout.resolved(name))
        assert run.variant.science == variant.science
        assert run.checkpoint == known.checkpoint
        if variant.trained:
            sizes = {variant.resolution: known.finetune.image_sizes[variant.resolution]}
            assert run.finetune == known.finetune.model_copy(update={"image_sizes": sizes})
        text = known.layout.resolved(name).read_text()
        assert variant.title not in text.split('"')
        assert '"rows"' not in text
    dino = read_dino(known.layout.dino_settings)
    assert dino.dino.stand_in == known.dino.stand_in
    assert dino.view == known.dino.stand_in.view


def test_unchanged_files_stay_and_those_of_no_variant_go(folder: Path) -> None:
    known, variants = params(), dict(load_variants(HERE.variants))
    write_resolved(known, variants, known.layout)
    before = {path: path.stat().st_mtime_ns for path in known.layout.variants.iterdir()}
    del variants["se"]
    changed = write_resolved(params(finetune={"image_sizes": {224: 64, 384: 96}}), variants, known.layout)
    after = {path: path.stat().st_mtime_ns for path in known.layout.variants.iterdir()}
    assert set(before) - set(after) == {known.layout.resolved("se"), known.layout.backbone("se")}
    rewritten = {path for path in after if after[path] != before[path]}
    assert rewritten == set(changed)
    assert rewritten == {
        known.layout.resolved(name) for name, one in variants.items() if one.resolution == 384
    }


def test_published_features_do_not_depend_on_the_stand_in() -> None:
    published = {"kind": "file", "path": "dino.pth"}
    one = parse(DinoParams, published, Path("p"))
    other = parse(DinoParams, {**published, "stand_in": {"steps": 3}}, Path("p"))
    assert resolve_dino(one) == resolve_dino(other)
    assert resolve_dino(one) != resolve_dino(one.model_copy(update={"layer": 8}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file; `dvc repro resolve` writes it"),
        ("[]", "not an object; `dvc repro --force resolve`"),
        ("{}", "variant: this key is missing"),
        ('{"variant": {"epochs": 0}, "checkpoint": {"path": "x"}}', "epochs: Input should be greater"),
        ('{"variant": {}, "checkpoint": {}}', "path: this key is missing"),
        ('{"variant": ', "not valid JSON"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "ge.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RegroupError) as error:
        read_run(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_script_that_is_started_by_hand_goes_by_the_parameters_as_they_are(
    by_dvc: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVC has written the files of `resolve` before it starts a stage; nobody else has."""
    copy_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["stages/finetune.py"])
    monkeypatch.delenv("DVC_STAGE", raising=False)
    if by_dvc:
        monkeypatch.setenv("DVC_STAGE", "finetune@ge")
    steps: list[int | None] = []

    def read(stage: Stage) -> None:
        steps.append(read_run(stage.layout.resolved(stage.key)).finetune.max_steps)

    words = ["--params", "params.yaml", "--item", "ge"]
    if by_dvc:
        with pytest.raises(SystemExit):
            run(read, words)
        assert "dvc repro resolve" in capsys.readouterr().err
        return
    run(read, words)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("max_steps: null", "max_steps: 3"))
    run(read, words)
    assert steps == [None, 3]
