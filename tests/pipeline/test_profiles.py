"""What the profiles in git say holds together."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from regroup.params import load_params
from regroup.profile import render
from regroup.variants_file import load_variants
from tests.thesis import HERE, thesis

from .graph import ROOT


@pytest.mark.parametrize(
    "overrides", sorted(ROOT.glob("*/overrides.yaml")), ids=lambda path: path.parent.name
)
def test_every_profile_is_made_of_its_overrides(overrides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`regroup profile NAME` has been run since params.yaml or the overrides were edited."""
    monkeypatch.chdir(ROOT)
    expected, made = render(overrides.relative_to(ROOT)), overrides.parent / "params.yaml"
    assert made.read_text() == expected, f"run `regroup profile {overrides.parent.name}`"
    assert load_params(made).name == overrides.parent.name


def test_files_that_full_points_at_are_made_by_its_own_stages() -> None:
    """What `weights` fetches is where the other sections look for it."""
    from regroup.sources.weights import find_weights

    params = load_params(ROOT / "full" / "params.yaml")
    fetched = {params.layout.weights / one.file for one in find_weights(params.weights.artefacts).values()}
    assert params.checkpoint.path in fetched
    assert params.nouns.tagger_path in fetched


def test_every_profile_has_the_vocabularies_that_variants_may_name() -> None:
    for profile in (".", "full"):
        assert set(load_params(ROOT / profile / "params.yaml").nouns.vocabularies) == {"freq1k", "freq5k"}


def test_every_table_row_that_is_filled_exists() -> None:
    for name, variant in load_variants(HERE.variants).items():
        for row in variant.rows:
            assert thesis().table(row.table).row(row.row), name


def test_every_row_of_a_printed_table_is_filled() -> None:
    variants = load_variants(HERE.variants)
    rows = [(row.table, row.row, Path(name)) for name, v in variants.items() for row in v.rows]
    numbers = load_params(ROOT / "params.yaml").tables.numbers
    assert numbers is not None
    # what the others score is not a fine-tuning run of its own
    trained = [number for number in numbers if thesis().table(number).filled_by == "variants"]
    assert [str(ref) for ref in thesis().unfilled(thesis().fill(rows), trained)] == []


def test_params_yaml_explains_itself() -> None:
    """Every section has a comment above or beside it."""
    document = YAML().load(ROOT / "params.yaml")
    text = (ROOT / "params.yaml").read_text()
    for key in document:
        lines = text.splitlines()
        index = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
        block = "\n".join([lines[index - 1], *lines[index : index + 3]])
        assert "#" in block, key
