"""What reruns when a default, a title, a row or a parameter changes, in the real graph."""

from __future__ import annotations

import json
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
from regroup.objectives import OBJECTIVES
from regroup.params import Params, load_params
from regroup.resolved import (
    fill_in,
    overridden,
    read_dino,
    read_run,
    resolve_dino,
    resolve_run,
    write_resolved,
)
from regroup.settings import parse, read_yaml
from regroup.stage import Stage, run
from regroup.variants import Variant
from regroup.variants_file import load_variants
from tests.thesis import HERE, STUDY, edit, enter_project

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
        edit(self.root / file, old, new)

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
    # a new objective is nobody's; a default of one is its users', and so is its code
    new = project.root / "src/regroup/objectives/new.py"
    shutil.copy(new.with_name("group_entropy.py"), new)
    assert project.reproduce() == set()
    project.edit(
        "src/regroup/objectives/group_entropy.py", 'form: Form = "thesis"\n', 'form: Form = "published"\n'
    )
    assert project.reproduce() == {"ge", "ge-384"}
    project.edit("src/regroup/objectives/multi_label.py", "Which of the two forms.", "Which form.")
    assert project.reproduce() == {"ge", "ge-384", "batch-256"}


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
        assert run.variant.science == variant.science | fill_in(variant, where=name)
        assert run.checkpoint == known.checkpoint
        if variant.trained:
            sizes = {variant.resolution: known.finetune.image_sizes[variant.resolution]}
            assert run.finetune == known.finetune.model_copy(update={"image_sizes": sizes})
        text = known.layout.resolved(name).read_text()
        assert variant.title not in text.split('"')
        assert not {"title", "rows"} & set(json.loads(text)["variant"])
        code = json.loads(text)["code"]
        assert {name for name in code if name.startswith("objectives.")} == {
            f"objectives.{term.name}" for term in variant.objectives
        }
        assert all(
            code[f"objectives.{one.name}"] == OBJECTIVES.digest(one.name) for one in variant.objectives
        )
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


def variant(**values: Any) -> Variant:
    return parse(Variant, {"title": "T", "objectives": [{"name": "contrastive"}], **values}, "v")


def test_a_variant_replaces_single_values_of_the_profile(folder: Path) -> None:
    known = load_params(ROOT / "params.yaml")
    own = variant(optimiser={"learning_rate": 0.01, "betas": [0.8, 0.9]}, augmentation={"flip": 0})
    write_resolved(known, {"own": own, "plain": variant(seed=1)}, known.layout)
    run, plain = (read_run(known.layout.resolved(name)).finetune for name in ("own", "plain"))
    profile = known.finetune.model_copy(update={"image_sizes": plain.image_sizes})
    assert plain == profile
    assert run.augmentation == profile.augmentation.model_copy(update={"flip": 0})
    changed = {"learning_rate": 0.01, "betas": (0.8, 0.9)}
    assert run.optimiser == profile.optimiser.model_copy(update=changed)
    # without values of its own, what is written is what it was before there could be any
    assert "optimiser" not in json.loads(known.layout.resolved("own").read_text())["variant"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"optimiser": {"learning_rat": 1}}, "v.optimiser: learning_rat: unknown key; did you mean `learn"),
        ({"optimiser": {"learning_rate": -1}}, "v.optimiser: learning_rate: Input should be greater than 0"),
        # in range by itself, and below the profile's warm-up
        ({"optimiser": {"learning_rate": 1e-8}}, "`warmup_learning_rate` 5e-07 is above `learning_rate`"),
        ({"augmentation": {"flip": 2}}, "v.augmentation: flip: Input should be less than or equal to 1"),
        ({"augmentation": {"crop_scale": [0.9, 0.1]}}, "v.augmentation: crop_scale: the first of"),
    ],
)
def test_values_of_its_own_are_checked_beside_the_profile_s(values: dict[str, Any], message: str) -> None:
    known = load_params(ROOT / "params.yaml")
    with pytest.raises(RegroupError) as error:
        overridden(known.finetune, variant(**values), where="v")
    assert message in str(error.value)


def test_options_of_plugins_are_filled_in_and_checked() -> None:
    known = load_params(ROOT / "params.yaml")
    terms = [{"name": "segment_entropy", "options": {"over_groups": 0.5}}]
    (term,) = resolve_run(variant(objectives=terms), known.checkpoint, known.finetune)["variant"][
        "objectives"
    ]
    assert term["options"] == {"form": "thesis", "over_labels": 0.2, "over_groups": 0.5}
    terms[0]["options"] = {"over_groups": "much"}
    with pytest.raises(RegroupError, match=r"^v\.objectives\.segment_entropy: over_groups: "):
        resolve_run(variant(objectives=terms), known.checkpoint, known.finetune, where="v")


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
    enter_project(tmp_path, monkeypatch)
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
