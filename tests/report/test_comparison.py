"""Differences and their intervals against SciPy's t-tests, sums of squares by hand, simulation."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import stats

from regroup.report.comparison import (
    OWN,
    UNKNOWN,
    Difference,
    Sample,
    Spread,
    Spreads,
    blocked,
    difference,
    pooled,
    t95,
)
from regroup.report.samples import spreads_of

LEFT, RIGHT = (30.1, 30.9, 30.4), (29.0, 29.9, 29.3)


def sample(
    scores: tuple[float, ...], name: str = "", *, trained: bool = True, seeds: tuple[int, ...] = ()
) -> Sample:
    by_checkpoint = tuple((f"{name}{k}", score) for k, score in enumerate(scores)) if name else ()
    by_seed = tuple(zip(seeds, scores, strict=True)) if seeds else ()
    return Sample(float(np.mean(scores)), len(scores), trained, by_checkpoint, by_seed)


def check(found: Difference, interval: Any) -> None:
    """An interval against one of SciPy's."""
    assert found.half is not None
    assert found.value - found.half == pytest.approx(interval.low, abs=1e-9)
    assert found.value + found.half == pytest.approx(interval.high, abs=1e-9)


def test_quantiles_are_those_of_printed_tables() -> None:
    tabulated = {1: 12.706, 2: 4.303, 4: 2.776, 6: 2.447, 10: 2.228, 30: 2.042, 40: 2.021, 120: 1.980}
    for freedom, value in tabulated.items():
        assert t95(freedom) == pytest.approx(value, abs=5e-4)


def test_rows_without_common_seeds_are_compared_like_an_unpaired_t_test() -> None:
    spread = pooled([(float(np.var(x, ddof=1)), len(x)) for x in (LEFT, RIGHT)])
    for seeds in ((), (7, 8, 9)):
        found = difference(sample(LEFT, "a"), sample(RIGHT, "b", seeds=seeds), Spreads(spread))
        assert found.method == "pooled"
        check(found, stats.ttest_ind(LEFT, RIGHT).confidence_interval(0.95))


def test_the_same_checkpoints_are_compared_pairwise() -> None:
    found = difference(sample(LEFT, "a"), sample(RIGHT, "a"), Spreads(Spread(100.0, 4)))
    assert found.method == "same"
    check(found, stats.ttest_rel(LEFT, RIGHT).confidence_interval(0.95))
    assert difference(sample(LEFT[:1], "a"), sample(RIGHT[:1], "a"), UNKNOWN).half == 0


def test_rows_with_enough_common_seeds_are_compared_like_a_paired_t_test() -> None:
    rng, seeds = np.random.default_rng(0), tuple(range(OWN))
    a, b = (tuple(rng.normal(30, 1, OWN)) for _ in range(2))
    more = (*b, 99.0)  # of a seed that the other row has not
    found = difference(sample(a, seeds=seeds), sample(more, seeds=(*seeds, 77)), Spreads(Spread(9.0, 4)))
    assert (found.method, found.seeds) == ("paired", OWN)
    check(found, stats.ttest_rel(a, b).confidence_interval(0.95))


def test_fewer_common_seeds_are_judged_by_what_seeds_leave_in_all_rows() -> None:
    """Against the textbook's sums of squares of a balanced two-way layout."""
    scores = np.random.default_rng(1).normal(0, 1, (4, 3)) + np.array([[0.0, 3.0, -2.0]])
    rest = scores - scores.mean(1, keepdims=True) - scores.mean(0, keepdims=True) + scores.mean()
    rows = [dict(zip((0, 100, 123), row, strict=True)) for row in scores.tolist()]
    spread = blocked(rows)
    assert spread is not None
    assert (spread.freedom, spread.variance) == (6, pytest.approx((rest**2).sum() / 6))
    one, two = (sample(tuple(row.values()), seeds=tuple(row)) for row in rows[:2])
    found = difference(one, two, Spreads(Spread(50.0, 8), spread))
    assert (found.method, found.seeds, found.freedom) == ("blocked", 3, 6)
    assert found.value == pytest.approx(scores[0].mean() - scores[1].mean())
    assert found.half == pytest.approx(stats.t.ppf(0.975, 6) * np.sqrt(2 * (rest**2).sum() / 6 / 3))


def test_seeds_alone_in_a_row_or_rows_without_common_seeds_leave_nothing_to_estimate() -> None:
    assert blocked([]) is None
    assert blocked([{1: 3.0}, {1: 4.0}]) is None
    assert blocked([{1: 3.0, 2: 4.0}, {3: 4.0, 4: 6.0}]) is None
    exact = blocked([{1: 3.0, 2: 4.0}, {1: 5.0, 2: 6.0}])
    assert exact == Spread(0.0, 1)


def test_no_seed_enters_the_pretrained_checkpoint() -> None:
    spreads = Spreads(Spread(0.04, 4))
    one = difference(sample((30.0,)), sample((24.3,), trained=False), spreads)
    two = difference(sample((30.0,)), sample((24.3,)), spreads)
    assert one.half == pytest.approx(stats.t.ppf(0.975, 4) * 0.2)
    assert two.half == pytest.approx(stats.t.ppf(0.975, 4) * 0.2 * np.sqrt(2))


def test_against_it_a_row_with_enough_seeds_is_judged_by_its_own() -> None:
    scores = (30.0, 31.0, 30.5, 30.2, 31.4)
    found = difference(
        sample(scores, seeds=(1, 2, 3, 4, 5)), sample((24.3,), trained=False), Spreads(Spread(9.0, 4))
    )
    assert found.method == "own"
    check(found, stats.ttest_1samp(np.array(scores) - 24.3, 0).confidence_interval(0.95))
    turned = difference(sample((24.3,), trained=False), sample(scores, seeds=(1, 2, 3, 4, 5)), UNKNOWN)
    assert (turned.value, turned.half) == (pytest.approx(-found.value), pytest.approx(found.half))


def test_a_part_of_the_other_row_scales_its_error_too() -> None:
    spreads = Spreads(Spread(0.04, 4))
    found = difference(sample((1.0,)), sample((24.0,)), spreads, factor=0.2)
    assert found.value == pytest.approx(1.0 - 4.8)
    assert found.error == pytest.approx(0.2 * np.sqrt(1 + 0.2**2))


def test_of_a_part_of_the_other_row_a_seed_s_effect_does_not_drop_out() -> None:
    spreads = Spreads(Spread(0.04, 4), Spread(0.0001, 8))
    rows = sample((1.0, 1.2), seeds=(1, 2)), sample((24.0, 25.0), seeds=(1, 2))
    found = difference(*rows, spreads, factor=0.2)
    assert found.method == "pooled"
    assert found.error == pytest.approx(0.2 * np.sqrt((1 + 0.2**2) / 2))
    assert difference(*rows, spreads).method == "blocked"


def test_without_repeated_runs_there_is_no_spread() -> None:
    assert pooled([(0.0, 1), (0.0, 1)]) is None
    found = difference(sample((30.0,)), sample((24.0,)), UNKNOWN)
    assert (found.half, found.below(100), found.above(-100)) == (None, 1, 1)


def test_p_values_are_those_of_t_tests_and_reach_a_half_at_the_estimate() -> None:
    found = difference(sample(LEFT, "a"), sample(RIGHT, "a"), UNKNOWN)
    for bound in (0.0, 0.9, 1.2):
        expected = stats.ttest_rel(LEFT, np.array(RIGHT) + bound, alternative="greater").pvalue
        assert found.above(bound) == pytest.approx(expected)
        assert found.below(bound) == pytest.approx(1 - expected)
    assert found.above(found.value) == pytest.approx(0.5)


def world(
    rng: np.random.Generator, means: list[float], seeds: list[list[int]], effect: float, rest: float
) -> list[Sample]:
    """Rows of a world in which a seed moves all rows alike by `effect`, and each by `rest` of its own."""
    numbers = sorted({seed for some in seeds for seed in some})
    moved = dict(zip(numbers, rng.normal(0, effect, len(numbers)), strict=True))
    rows = []
    for mean, some in zip(means, seeds, strict=True):
        scores = tuple(mean + moved[seed] + rng.normal(0, rest) for seed in some)
        rows.append(sample(scores, f"r{len(rows)}-", seeds=tuple(some)))
    return rows


@pytest.mark.parametrize(
    ("seeds", "method"),
    [
        ([[1, 2, 3]] * 6, "blocked"),
        ([[1], [1], *[[1, 2, 3]] * 5], "blocked"),
        ([[1, 2], [3, 4, 5], *[[k, k + 1, k + 2] for k in (10, 20, 30, 40)]], "pooled"),
        ([list(range(8))] * 2, "paired"),
    ],
)
def test_intervals_cover_the_truth_as_often_as_they_say(seeds: list[list[int]], method: str) -> None:
    rng, count = np.random.default_rng(3), 700
    means = [31.0, 30.0, *[25.0 + k for k in range(len(seeds) - 2)]]
    covered = 0
    for _ in range(count):
        rows = world(rng, means, seeds, 0.8, 0.5)
        found = difference(rows[0], rows[1], spreads_of(rows))
        assert found.method == method
        assert found.half is not None
        covered += abs(found.value - 1.0) <= found.half
    # three standard errors of the simulation itself
    assert covered / count == pytest.approx(0.95, abs=3 * np.sqrt(0.95 * 0.05 / count))


def test_common_seeds_make_narrower_intervals_where_seeds_move_rows_alike() -> None:
    rng, ratios = np.random.default_rng(4), []
    for _ in range(50):
        rows = world(rng, [31.0, 30.0, 29.0, 28.0, 27.0], [[1, 2, 3]] * 5, 1.0, 0.3)
        spreads = spreads_of(rows)
        halves = [
            difference(a, b, s).half for a, b in pairwise(rows[:2]) for s in (spreads, Spreads(spreads.seeds))
        ]
        assert halves[0] is not None
        assert halves[1] is not None
        ratios.append(halves[0] / halves[1])
    assert np.median(ratios) < 0.5
