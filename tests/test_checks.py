"""`regroup check`: what a study's author learns before anything runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from regroup.checks import Study, check_study
from regroup.cli import main
from regroup.errors import RegroupError
from regroup.inherited import inherited_values
from regroup.profile import make_profile

from .thesis import STARTS, edit, enter_project, thesis

ROOT = Path(__file__).parents[1]
VARIANTS = "studies/thesis/variants.yaml"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch, "dvc.yaml", *STARTS)


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
