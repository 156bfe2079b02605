"""Seeds as an axis of a variant: what may be written, and where what belongs to each lies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regroup.errors import RegroupError
from regroup.seeds import all_seeds, further_seeds, of_seed, read_seeds, write_seeds
from regroup.settings import parse
from regroup.variants import Variant
from regroup.variants_file import load_variants

TRAINED = "title: a, objectives: [{name: contrastive}]"


def variants(tmp_path: Path, *entries: str) -> Path:
    lines = (f"  {'abc'[k]}: {{{entry}}}\n" for k, entry in enumerate(entries))
    (tmp_path / "variants.yaml").write_text(f"variants:\n{''.join(lines)}")
    return tmp_path / "variants.yaml"


def test_one_seed_is_short_for_a_list_of_it(tmp_path: Path) -> None:
    path = variants(tmp_path, f"{TRAINED}, seed: 7", TRAINED, f"{TRAINED}, epochs: 3, seeds: [4, 0]")
    found = load_variants(path)
    assert [one.seeds for one in found.values()] == [(7,), (123,), (4, 0)]
    assert [one.seed for one in found.values()] == [7, 123, 4]
    assert found["a"] == found["a"].of_seed(7) == found["c"].model_copy(update={"epochs": 30, "seeds": (7,)})
    assert found["a"].science["seeds"] == [7]
    assert "seed" not in found["a"].science


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (f"{TRAINED}, seed: 1, seeds: [1]", r"variants\.a: `seed: N` is short for `seeds: \[N\]`"),
        (f"{TRAINED}, seeds: []", r"variants\.a\.seeds: .*at least 1 item"),
        (f"{TRAINED}, seeds: [1, 2, 1]", r"variants\.a\.seeds: 1 is listed twice"),
        (f"{TRAINED}, seeds: [-1]", r"variants\.a\.seeds\.0: "),
        (f"{TRAINED}, seeds: 3", r"variants\.a\.seeds: "),
        ("title: a, trainable: nothing, seeds: [1, 2]", "seeds: nothing is trained, so there is one result"),
    ],
)
def test_seeds_that_mean_nothing_are_refused(tmp_path: Path, entry: str, reason: str) -> None:
    with pytest.raises(RegroupError, match=reason):
        load_variants(variants(tmp_path, entry))


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        ("seeds: [0, 1]", "seeds: [1]", "are the same run"),
        ("seeds: [0, 1], rows: [{table: 5, row: x}]", "seed: 2, rows: [{table: 5, row: x}]", "seeds alone"),
    ],
)
def test_seeds_of_one_experiment_are_one_entry(tmp_path: Path, one: str, two: str, reason: str) -> None:
    with pytest.raises(RegroupError, match=reason) as raised:
        load_variants(variants(tmp_path, f"{TRAINED}, {one}", f"{TRAINED}, {two}"))
    assert "variants.b and variants.a" in str(raised.value)
    if reason == "seeds alone":
        assert "`seeds: [0, 1, 2]`" in str(raised.value)


def test_a_publication_may_print_an_experiment_in_two_rows(tmp_path: Path) -> None:
    rows = ("seeds: [0], rows: [{table: 5, row: x}]", "seed: 123, rows: [{table: 6, row: x}]")
    assert len(load_variants(variants(tmp_path, *(f"{TRAINED}, {one}" for one in rows)))) == 2


@pytest.mark.parametrize(
    ("own", "at_least", "every"),
    [
        ((123,), None, (123,)),
        ((123, 0, 100), 2, (123, 0, 100)),
        ((123,), 4, (123, 0, 100, 200)),
        ((0, 100, 200), 5, (0, 100, 200, 123, 300)),
        ((5, 123), 4, (5, 123, 0, 100)),
    ],
)
def test_further_seeds_are_those_of_the_others(
    own: tuple[int, ...], at_least: int | None, every: tuple[int, ...]
) -> None:
    """So that variants have seeds in common, by which they can be compared in pairs."""
    assert all_seeds(own, at_least) == every


def test_a_run_folder_says_which_seeds_it_has(tmp_path: Path) -> None:
    run = tmp_path / "ge"
    assert read_seeds(run) == {None: run}
    write_seeds(run, [123, 0, 20])
    with pytest.raises(RegroupError, match=r"seeds\.json: names a run that is not there, .*seeds/0;"):
        read_seeds(run)
    for seed in ("0", "20", "later"):
        (run / "seeds" / seed).mkdir(parents=True)
    assert list(read_seeds(run).items()) == [
        (123, run),
        (0, run / "seeds/0"),
        (20, run / "seeds/20"),
    ]
    assert [seed for seed, _ in further_seeds(run)] == [0, 20]
    for damaged in ("[1]", "{}", '{"seeds": []}', '{"seeds": ["1"]}', '{"seeds": [true]}'):
        (run / "seeds.json").write_text(damaged)
        with pytest.raises(RegroupError, match=r"seeds\.json: not a list of seeds; run"):
            read_seeds(run)


def test_metrics_of_further_seeds_have_names_of_their_own() -> None:
    values: dict[str, Any] = {"loss": 1.0}
    assert of_seed(values, [123, 0], 123) == {"loss": 1.0}
    assert of_seed(values, [123, 0], 0) == {"seed-0/loss": 1.0}
    assert of_seed(values, [None], None) == {"loss": 1.0}


def test_a_variant_of_an_earlier_state_is_read(tmp_path: Path) -> None:
    assert parse(Variant, {"title": "a", "seed": 5, "objectives": [{"name": "contrastive"}]}, "x").seeds == (
        5,
    )
