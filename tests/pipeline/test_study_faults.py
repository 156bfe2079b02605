"""What is wrong with a study is said before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.cli import main
from regroup.errors import RegroupError
from regroup.profile import make_on_demand

from .studies import PARAMS, PIPELINE, VARIANTS


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "overrides.yaml",
            "world: {seed: 8}",
            "world: belongs to the data that all studies of the profile `mini`",
        ),
        ("overrides.yaml", "dino.layer: 3", "dino: belongs to the data"),
        ("overrides.yaml", "sources.voc12.kind: local", "sources.voc12: belongs to the data"),
        ("overrides.yaml", "sources: {coco: {kind: local}}", "sources.coco: belongs to the data"),
        ("overrides.yaml", "sources: null", "sources: a mapping of sources that the study brings"),
        ("overrides.yaml", "sources: {cocoa: {kind: mini}}", "cocoa: no such source; did you mean `coco`?"),
        ("overrides.yaml", "own_sources: [coco]", "own_sources: follows from the folder of the study"),
        ("overrides.yaml", "name: mine", "name: follows from the folder of the study"),
        (
            "overrides.yaml",
            "finetune: {max_step: 3}",
            "finetune.max_step: unknown key; did you mean `max_steps`?",
        ),
        ("overrides.yaml", "tables: {numbers: [7]}", "tables.numbers: there is no table 7"),
        (
            "overrides.yaml",
            "sweep: {variant: nobody}",
            "sweep.variant: nobody is not in studies/mine/variants.yaml",
        ),
        ("dvc.yaml", "stages: {}\n", "dvc.yaml: was not made by `regroup profile`"),
        ("claims.yaml", "margin: 1\nclaims: [{}]", "claims.0.id: this key is missing"),
        (
            "variants.yaml",
            VARIANTS.replace("study: thesis", "study: thesi"),
            "borrowed.original.study: studies/thesi/variants.yaml: no such file",
        ),
        ("variants.yaml", VARIANTS.replace("study: thesis", "study: mine"), "is this study itself"),
        (
            "variants.yaml",
            VARIANTS.replace("variant: original", "variant: orig"),
            "no orig in studies/thesis",
        ),
        (
            "variants.yaml",
            VARIANTS.replace("row: original", "row: first"),
            "borrowed.original.rows: table 1: no row",
        ),
        ("variants.yaml", "variants: {}\n", "a study has a run"),
        (
            "variants.yaml",
            VARIANTS.replace("  original:", "  captions:"),
            "borrowed.captions: is under `variants` too",
        ),
        (
            "variants.yaml",
            VARIANTS + "  again: {study: thesis, variant: original}\n",
            "borrowed.again: is the same run as original; list the rows of both in one entry",
        ),
        (
            "overrides.yaml",
            "tracking.register: original",
            "tracking.register: original is not in studies/mine/variants.yaml",
        ),
        ("variants.yaml", VARIANTS.partition("borrowed")[0], "no variant fills table 1, row original"),
    ],
)
def test_a_fault_of_a_study_is_named(
    project: Path, capsys: pytest.CaptureFixture[str], file: str, text: str, message: str
) -> None:
    (project / "studies/mine" / file).write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["check", "--params", str(PARAMS)])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ("thesis", "is the study of params.yaml itself; start it with `dvc repro`"),
        ("theses", "there is no study `theses`; known: mine, thesis"),
    ],
)
def test_only_another_study_has_a_pipeline_of_its_own(project: Path, study: str, message: str) -> None:
    with pytest.raises(RegroupError, match=message):
        make_on_demand(Path("studies", study, "dvc.yaml"))


def test_results_are_not_called_as_a_profile_s(project: Path) -> None:
    (project / "mini-mine").mkdir()
    (project / "mini-mine/overrides.yaml").write_text("finetune.max_steps: 3\n")
    with pytest.raises(RegroupError, match="its results would have the name of the profile mini-mine"):
        make_on_demand(PIPELINE)
