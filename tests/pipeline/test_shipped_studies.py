"""Studies that lie in git beside the thesis's: they fit together, and compare what they say they compare."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.checks import check_study
from regroup.inherited import inherited_values
from regroup.profile import make_on_demand, make_profile
from regroup.report.reference import load_reference
from regroup.study import StudyFiles
from regroup.variants import Variant
from regroup.variants_file import load_scored
from tests.thesis import enter_project

from .graph import ROOT

STUDIES = sorted(
    path.parent.name for path in ROOT.glob("studies/*/tables.yaml") if path.parent.name != "thesis"
)
STARTS = (
    "pretrain/groupvit-mini/config.json",
    "pretrain/clip-mini/config.json",
    "src/regroup/dino/stand_in.py",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    names = (
        "variants.yaml",
        "tables.yaml",
        "claims.yaml",
        "overrides.yaml",
        "drawn.yaml",
        "full/overrides.yaml",
    )
    files = (Path("studies", study, name) for study in STUDIES for name in names)
    mine = [str(path) for path in files if (ROOT / path).is_file()]
    full = [f"full/{name}.yaml" for name in ("overrides", "why")]
    return enter_project(tmp_path, monkeypatch, "dvc.yaml", *STARTS, *mine, *full)


@pytest.mark.parametrize("study", STUDIES)
def test_a_shipped_study_has_no_faults(project: Path, study: str) -> None:
    make_on_demand(Path("studies", study, "dvc.yaml"))
    assert check_study(Path("studies", study, "params.yaml")).rows


@pytest.mark.parametrize("study", ["as-written", "batch-norm"])
def test_a_study_of_the_thesis_s_rows_runs_on_real_data_at_its_scale(project: Path, study: str) -> None:
    make_profile(Path("full"))
    make_on_demand(Path("studies", study, "full", "dvc.yaml"))
    params = Path("studies", study, "full", "params.yaml")
    assert check_study(params).trained
    assert inherited_values(params) == []


def by_row(study: str) -> dict[str, Variant]:
    files = StudyFiles(Path("studies", study))
    (table,) = load_reference(files.tables).tables
    scored = load_scored(files.variants, "mini")
    found = {row.row: variant for variant in scored.values() for row in variant.rows}
    assert set(found) == {row.id for row in table.rows}
    return found


def differing(one: Variant, other: Variant) -> set[str]:
    """Fields of what two runs compute, but for their seeds."""
    left, right = one.science, other.science
    return {key for key in left if left[key] != right[key]} - {"seed", "seeds"}


def test_what_is_run_as_written_differs_in_one_thing_from_what_it_is_compared_with(project: Path) -> None:
    rows = by_row("as-written")
    (table,) = load_reference(Path("studies/as-written/tables.yaml")).tables
    # a larger batch is part of the thesis's row; nouns alone are a matter of batch norm's texts too
    several = {
        "noise_free_ge_coded": {"batch", "labels", "objectives"},
        "noise_free_ge_written": {"batch", "objectives"},
        "all_entities_written": {"batch_norm", "labels"},
    }
    pairs = [(row.id, row.over) for row in table.rows if row.over is not None]
    assert len(pairs) > 20
    for row, over in pairs:
        found = differing(rows[row], rows[over])
        assert found == several[row] if row in several else len(found) == 1, f"{row}: {found}"


def test_what_is_as_written_has_no_form_of_the_code_s(project: Path) -> None:
    for row, variant in by_row("as-written").items():
        forms = {term.options.get("form") for term in variant.objectives}
        if row.endswith("_written") or "_written_" in row:
            assert "published" not in forms, row
            assert (variant.batch_norm.segments, variant.batch_norm.padding) == (False, False), row


def test_rows_of_table_32_differ_in_their_statistics_alone(project: Path) -> None:
    rows = by_row("batch-norm")
    for method in ("fine_tuning", "ge", "noise_free_ge"):
        base = rows[f"{method}_batch"]
        for statistics in ("held", "original", "recomputed"):
            other = rows[f"{method}_{statistics}"]
            assert differing(other, base) == {"batch_norm"}
            assert other.batch_norm == base.batch_norm.model_copy(update={"statistics": statistics})
    assert differing(rows["original_batch"], rows["original_recomputed"]) == {"batch_norm"}
