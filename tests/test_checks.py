"""`regroup check` and `regroup plan`: what a study's author learns before anything runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from regroup.checks import Study, check_study
from regroup.cli import main
from regroup.errors import RegroupError
from regroup.inherited import inherited_values
from regroup.profile import make_profile
from regroup.training.measure import Measurement

from .thesis import edit, enter_project, thesis

ROOT = Path(__file__).parents[1]
VARIANTS = "studies/thesis/variants.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    checkpoints = (f"pretrain/{name}-mini/config.json" for name in ("groupvit", "clip"))
    return enter_project(tmp_path, monkeypatch, "dvc.yaml", *checkpoints)


def test_every_row_of_every_table_has_a_run() -> None:
    """Tables 1, 2 and 12 come from analyses; all others from the runs of variants.yaml."""
    for name in ("params.yaml", "full/params.yaml"):
        study = check_study(ROOT / name)
        assert study.tables == len(thesis().tables)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (VARIANTS, "rows: [{table: 9, row: le}]", "rows: []", "no variant fills table 9, row le;"),
        (
            VARIANTS,
            "rows: [{table: 4, row: batch_256}]",
            "rows: []",
            "no variant fills table 13, row blocks2_tokens8; add `rows: [{table: 4, row: batch_256}]` to one",
        ),
        (VARIANTS, "{table: 9, row: le}", "{table: 9, row: el}", "variants.le.rows: table 9: no row"),
        (VARIANTS, "{table: 9, row: le}", "{table: 90, row: le}", "le.rows: there is no table 90"),
        ("params.yaml", "14, 33]", "14, 90]", "tables.numbers: there is no table 90"),
        (
            "params.yaml",
            "source: voc12, protocol: voc,",
            "source: ade, protocol: voc,",
            "datasets.voc.names: voc has no class for the drawn ",
        ),
        (
            "params.yaml",
            "  voc12: {",
            "  # ",
            "evaluate.segmentation.datasets.voc.source: voc12 is not under `sources` (coco,",
        ),
        (
            "params.yaml",
            "protocol: voc,",
            "protocol: vox,",
            "voc.protocol: vox: no such protocol; did you mean `voc`",
        ),
        ("params.yaml", "  voc12: {", "  voc2012: {", "voc2012: no such source; did you mean `voc12`"),
        (
            VARIANTS,
            "    title: Group entropy (GE)\n",
            "    title: GE\n    checkpoint: mine\n",
            "variants.ge.checkpoint: `checkpoints` of params.yaml has no mine; it has clip",
        ),
        (VARIANTS, "vocabulary: freq1k", "vocabulary: freq2k", "freq2k in `nouns.vocabularies`"),
        (
            VARIANTS,
            "    title: Group entropy (GE)\n",
            "    title: GE\n    checkpoint: clip\n    trainable: image_tower\n",
            "variants.ge.objectives: group_entropy is about how patches are grouped, and a clip ",
        ),
        (
            VARIANTS,
            "    title: Group entropy (GE)\n",
            "    title: GE\n    checkpoint: clip\n",
            "variants.ge.trainable: a clip has no both_gbs; it has all, image_projector,",
        ),
        (
            VARIANTS,
            "    title: Group entropy (GE)\n",
            "    title: GE\n    adapt: [{name: parts, options: {train: nothing}}]\n",
            "variants.ge: adapt: `train: nothing` leaves nothing to the `objectives`",
        ),
        (
            VARIANTS,
            "    title: Group entropy (GE)\n",
            "    title: GE\n    adapt: [{name: lora, options: {rank: 96}}]\n",
            "variants.ge.adapt: lora: rank: 96 is no low rank",
        ),
        (
            VARIANTS,
            "    title: Group entropy (GE)\n",
            "    title: GE\n    checkpoint: clip\n    trainable: image_tower\n    dino_input: true\n",
            "a clip has no grouping blocks",
        ),
        (
            VARIANTS,
            "    title: Second grouping block, both projectors\n",
            "    title: any\n    batch_norm: {statistics: held}\n",
            "variants.parts-gb2-projectors.batch_norm.statistics: `held` is about frozen projectors, and",
        ),
        (
            VARIANTS,
            "    title: Group entropy (GE)\n",
            "    title: GE\n    checkpoint: clip\n    trainable: image_tower\n",
            "variants.ge.batch_norm: the backbone `clip` has none; drop this key of the variant",
        ),
        (
            VARIANTS,
            "{segments: true, padding: true}",
            "{statistics: kept}",
            "variants.refined.batch_norm.statistics: Input should be 'batch', 'held', 'original' or 'recomp",
        ),
        ("params.yaml", "processes: null", "processes: 3", "cannot be shared by 3 processes evenly"),
        (
            "params.yaml",
            "batch_divisor: 8",
            "batch_divisor: 1",
            "256 images in params.yaml are more than the 128",
        ),
        (
            VARIANTS,
            "    epochs: 15\n",
            "    epochs: 15\n    optimiser: {learning_rat: 1}\n",
            "variants.yaml: variants.parts-both-gbs.optimiser: learning_rat: unknown key; did you",
        ),
        (
            VARIANTS,
            "{name: segment_entropy, options: {form: published}}",
            "{name: segment_entropy, options: {over_groups: 2000}}",
            "variants.yaml: variants.se.objectives.segment_entropy: over_groups: Input should be less than",
        ),
        (
            VARIANTS,
            "labels: {source: none, count: 0}\n    objectives: [{name: contrastive}]",
            "labels: {source: none, count: 0}\n    objectives: [{name: multi_label}]",
            "variants.yaml: variants.labels-caption.labels: multi_label needs labels",
        ),
        (
            VARIANTS,
            "    title: Fine-tuning\n"
            "    labels: {source: published_phrases+nouns, count: 5, padding: caption}\n"
            "    objectives: [{name: contrastive}, {name: multi_label}]",
            "    title: Fine-tuning\n    labels: {source: published_phrases+nouns}\n"
            "    batch_norm: {segments: true, padding: true}\n"
            "    objectives: [{name: contrastive}, {name: multi_label, options: {form: published}}]",
            "variants.refined: is the same run as variants.vanilla, every default filled in",
        ),
        ("params.yaml", "coco_train: 1600", "coco_train: 5", "are more than the 25 captions of an epoch"),
        ("params.yaml", "batch_divisor: 8", "batch_divisor: 200", "leaves no two images to tell apart"),
        ("params.yaml", "{224: 64, 384: 112}", "{224: 64}", "has no size for 384"),
        (
            "params.yaml",
            "{224: 64, 384: 112}",
            "{224: 65, 384: 112}",
            "finetune.image_sizes.224: 65 pixels are no multiple of the patches of 8",
        ),
        ("params.yaml", "register: noise-free-ge-384", "register: nope", "tracking.register: nope is not in"),
        ("params.yaml", "path: pretrain/groupvit-mini", "path: nope", "checkpoint.path: nope does not exist"),
        ("params.yaml", "tagger: textblob", "tagger: nltk", "nouns.tagger_path: is not set"),
        ("params.yaml", "tagger_path: null", "tagger_path: nope", "nouns.tagger_path: nope does not exist"),
        ("params.yaml", "artefacts: []", "artefacts: [nope]", "weights.artefacts: no weights 'nope'"),
        ("params.yaml", "  stride: null", "  stride: [512]", "sweep.stride: every stride is larger"),
        ("params.yaml", "    width: 96 ", "    width: 64 ", "variants.dino-input.dino_input: features of 64"),
        ("params.yaml", "    width: 96 ", "    width: 64 ", "; give `dino.stand_in.width: 96`"),
        ("params.yaml", "\nroot: .", "\nroot: ..", "root: .. is not the project's root"),
        ("params.yaml", "\ndata: mini", "\ndata: other", "data: is other, and nothing here would make"),
        (
            "params.yaml",
            "params_file: params.yaml",
            "params_file: full/params.yaml",
            "would read another profile",
        ),
        (
            "dvc.yaml",
            "  - studies/thesis/variants.yaml",
            "  - others.yaml",
            "variants.yaml is not under `vars` of dvc.yaml",
        ),
    ],
)
def test_a_fault_is_named_with_its_place(project: Path, file: str, old: str, new: str, message: str) -> None:
    edit(project / file, old, new, first=True)
    with pytest.raises(RegroupError) as error:
        check_study(Path("params.yaml"))
    assert message in str(error.value)


def test_one_run_of_one_row_is_counted_as_one() -> None:
    assert str(Study("mini-a", 1, 0, 1, 1)) == (
        "mini-a: 1 run (0 trained) fills 1 row of 1 table; no faults found"
    )
    assert str(Study("mini", 49, 48, 14, 67)).startswith(
        "mini: 49 runs (48 trained) fill 67 rows of 14 tables"
    )


def test_a_run_that_starts_from_a_run_of_its_own_pipeline_is_refused(project: Path) -> None:
    edit(project / VARIANTS, "    title: Group entropy (GE)\n", "    title: GE\n    checkpoint: clip\n")
    edit(project / "params.yaml", "path: pretrain/clip-mini", "path: runs/mini/refined")
    with pytest.raises(
        RegroupError, match=r"checkpoints\.clip\.path: runs/mini/refined is made by this very"
    ):
        check_study(Path("params.yaml"))


def test_the_profile_of_the_readme_has_no_faults(project: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    overrides = readme.partition("```yaml\n# mycoco/overrides.yaml\n")[2].partition("```")[0]
    for name, text in (("full", (ROOT / "full/overrides.yaml").read_text()), ("mycoco", overrides)):
        (project / name).mkdir()
        (project / name / "overrides.yaml").write_text(text)
        make_profile(Path(name))
    assert check_study(Path("mycoco/params.yaml")).trained
    shutil.copyfile(ROOT / "full/why.yaml", project / "full/why.yaml")
    assert inherited_values(Path("mycoco/params.yaml")) == []


def test_all_faults_are_told_at_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(project / VARIANTS, "rows: [{table: 9, row: le}]", "rows: []")
    edit(project / VARIANTS, "vocabulary: freq5k", "vocabulary: rare")
    with pytest.raises(SystemExit) as ended:
        main(["check"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "row le" in told
    assert "rare" in told


def test_the_plan_of_the_real_study_counts_the_thesis_s_steps(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 epochs of 591,753 captions in batches of 512 are 34,650 steps."""
    folder = project / "full"
    folder.mkdir()
    (folder / "params.yaml").write_text((ROOT / "full/params.yaml").read_text())
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--params", "full/params.yaml", "--no-measure"])
    assert not ended.value.code
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert lines["noise-free-ge-384"][1:] == ["3", "103,950", "512", "384", "150.0"]  # of its three seeds
    assert lines["vocabulary-5k"][1:] == ["1", "11,555", "256", "224", "25.0"]


def test_the_plan_says_how_many_augmentations_of_an_image_a_run_sees(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """30 epochs of 128 captions are 2.4 samples of each of 1,600 images, of which two views are made."""
    with pytest.raises(SystemExit):
        main(["plan", "--no-measure"])
    said = capsys.readouterr().out
    assert said.startswith("mini: 39 variants, 49 runs to train, 8,000 captions of 1,600 images")
    lines = {line.split()[0]: line.split() for line in said.splitlines()}
    assert lines["refined"][-1] == "2.0"
    assert lines["parts-gb2"][-1] == "1.2"


def test_the_plan_measures_each_start_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Made-up features are numbers; a run starts from the checkpoint that it names."""
    (project / VARIANTS).write_text(
        "variants:\n"
        "  one: {title: a, batch: 16, objectives: [{name: contrastive}], trainable: image_projector}\n"
        "  clip: {title: b, batch: 16, objectives: [{name: contrastive}], trainable: image_projector, "
        "checkpoint: clip}\n"
        "  dino: {title: c, batch: 16, objectives: [{name: contrastive}], dino_input: true}\n"
    )
    for name in ("groupvit-mini", "clip-mini"):
        edit(project / "params.yaml", f"path: pretrain/{name}", f"path: {ROOT}/pretrain/{name}")
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--captions", "1000", "--images", "2"])
    told = capsys.readouterr()
    assert not ended.value.code, told.err
    lines = {line.split()[0]: line.split() for line in told.out.splitlines()}
    assert all(float(lines[name][6]) > 0 for name in ("one", "clip", "dino"))
    assert lines["one"][6:] != lines["clip"][6:]


@pytest.mark.slow
def test_the_plan_measures_what_it_prints(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / VARIANTS).write_text(
        "variants:\n"
        "  blocks: {title: a, epochs: 2, objectives: [{name: contrastive}]}\n"
        "  everything: {title: b, epochs: 2, trainable: all, objectives: [{name: contrastive}]}\n"
    )
    edit(project / "params.yaml", "path: pretrain/groupvit-mini", f"path: {ROOT}/pretrain/groupvit-mini")
    with pytest.raises(SystemExit):
        main(["plan", "--captions", "1000", "--images", "4"])
    lines = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    one, all_of_it = (
        dict(zip(lines["variant"], lines[name], strict=True)) for name in ("blocks", "everything")
    )
    assert one["steps"] == all_of_it["steps"]
    assert float(one["s/step"]) > 0
    hours = int(one["steps"]) * float(one["s/step"]) / 3600
    assert float(one["hours"]) == pytest.approx(hours, abs=0.01)
    assert float(all_of_it["GiB"]) >= float(one["GiB"])
    assert lines["total"][2] == str(int(one["steps"]) + int(all_of_it["steps"]))


def test_the_plan_tells_what_a_resolution_costs(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Section 5.9.1 speaks of the minutes that an epoch at 384 pixels takes more; they are of a machine."""
    (project / VARIANTS).write_text(
        "variants:\n"
        "  low: {title: a, epochs: 2, objectives: [{name: contrastive}]}\n"
        "  high: {title: b, epochs: 2, resolution: 384, objectives: [{name: contrastive}]}\n"
        "  other: {title: c, epochs: 3, resolution: 384, objectives: [{name: contrastive}]}\n"
    )
    seconds = {"low": 10.0, "high": 25.0, "other": 99.0}
    monkeypatch.setattr(
        "regroup.commands.plan._measure",
        lambda params, runs, images: {name: Measurement(seconds[name], 1) for name in runs},
    )
    with pytest.raises(SystemExit):
        main(["plan", "--captions", "1000"])
    said = capsys.readouterr().out
    steps = 4  # batches of 32 in mini's epoch of 128 captions
    assert (
        f"an epoch at 384 takes 2.5 times one at 224: +{steps * 15 / 60:.2f} minutes, the mean of 1 pair of"
        in said
    )
