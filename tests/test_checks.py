"""`regroup check` and `regroup plan`: what a study's author learns before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.checks import Study, check_study
from regroup.cli import main
from regroup.errors import RegroupError
from regroup.profile import make_profile

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
            "no variant fills table 14, row no_dino; add `rows: [{table: 4, row: batch_256}]` to one",
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
            "{name: segment_entropy}",
            "{name: segment_entropy, options: {over_groups: 2000}}",
            "variants.yaml: variants.se.objectives.segment_entropy: over_groups: Input should be less than",
        ),
        (
            VARIANTS,
            "labels: {source: none, count: 0}\n    objectives: [{name: contrastive}]",
            "labels: {source: none, count: 0}\n    objectives: [{name: multi_label}]",
            "variants.yaml: variants.labels-caption-seed0.labels: multi_label needs labels",
        ),
        (
            VARIANTS,
            "    title: Fine-tuning\n    labels: {count: 5, padding: caption}\n"
            "    objectives: [{name: contrastive}, {name: multi_label}]",
            "    title: Fine-tuning\n    objectives: [{name: contrastive}, "
            "{name: multi_label, options: {form: published}}]",
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
    assert lines["noise-free-ge-384"][1:] == ["34,650", "512", "384"]
    assert lines["vocabulary-5k"][1:] == ["11,555", "256", "224"]


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
    assert all(float(lines[name][4]) > 0 for name in ("one", "clip", "dino"))
    assert lines["one"][4:] != lines["clip"][4:]


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
    one, all_of_it = lines["blocks"], lines["everything"]
    assert one[1] == all_of_it[1]
    seconds, hours = float(one[4]), float(one[5])
    assert seconds > 0
    assert hours == pytest.approx(int(one[1]) * seconds / 3600, abs=0.01)
    assert float(all_of_it[6]) >= float(one[6])
    assert lines["total"][1] == str(int(one[1]) + int(all_of_it[1]))
