"""Verdicts at their borders, how often they err, and with how many seeds a claim would be told."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from regroup.report.comparison import Difference, Relation, Verdict, t95
from regroup.report.judging import (
    MOST_SEEDS,
    POWER,
    firm,
    judge,
    overall,
    p_agree,
    p_disagree,
    seeds_needed,
)


def found(value: float, half: float | None, freedom: float = 1e9) -> Difference:
    return Difference(value, None if half is None else half / t95(freedom), freedom)


@pytest.mark.parametrize(
    ("value", "half", "relation", "verdict"),
    [
        (1.0, 0.9, "higher", "agree"),
        (1.0, 1.1, "higher", "cannot tell"),
        (-1.0, 0.9, "higher", "disagree"),
        (0.0, 0.0, "higher", "disagree"),
        (0.01, 0.0, "higher", "agree"),
        (-1.0, 0.9, "lower", "agree"),
        (-1.0, 1.1, "lower", "cannot tell"),
        (1.0, 0.9, "lower", "disagree"),
        (-0.01, 0.0, "lower", "agree"),
        (0.2, 0.2, "similar", "agree"),
        (-0.4, 0.2, "similar", "cannot tell"),
        (0.8, 0.2, "similar", "disagree"),
        (-0.8, 0.2, "similar", "disagree"),
        (0.5, 0.0, "similar", "agree"),
        (-9.0, 0.2, "no_gain", "agree"),
        (0.4, 0.2, "no_gain", "cannot tell"),
        (0.8, 0.2, "no_gain", "disagree"),
        (9.0, 0.2, "no_loss", "agree"),
        (-0.4, 0.2, "no_loss", "cannot tell"),
        (-0.8, 0.2, "no_loss", "disagree"),
        (9.0, None, "higher", "cannot tell"),
    ],
)
def test_a_verdict_needs_the_whole_interval(
    value: float, half: float | None, relation: Relation, verdict: Verdict
) -> None:
    assert judge(found(value, half), relation, 0.5) == verdict


def test_to_refute_one_of_many_takes_a_wider_interval() -> None:
    contrary = found(-1.0, 0.9)
    assert judge(contrary, "higher", 0.5, among=1) == "disagree"
    assert judge(contrary, "higher", 0.5, among=10) == "cannot tell"
    # the whole claim is borne out by the weakest of its comparisons: nothing to correct
    assert judge(found(1.0, 0.9), "higher", 0.5, among=10) == "agree"


def test_a_claim_falls_with_one_comparison_and_stands_with_all() -> None:
    assert overall(["agree", "agree"]) == "agree"
    assert overall(["agree", "cannot tell"]) == "cannot tell"
    assert overall(["agree", "missing"]) == "missing"
    assert overall(["missing", "disagree", "agree"]) == "disagree"
    assert overall([]) == "missing"


def test_equivalence_is_two_one_sided_tests() -> None:
    values = np.array([0.1, -0.2, 0.3, 0.15, -0.05, 0.2])
    one = Difference(values.mean(), values.std(ddof=1) / np.sqrt(6), 5)
    above = stats.ttest_1samp(values, -0.5, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 0.5, alternative="less").pvalue
    assert p_agree(one, "similar", 0.5) == pytest.approx(max(above, below))
    assert p_agree(one, "no_gain", 0.5) == pytest.approx(below)
    assert p_disagree(one, "no_loss", 0.5) == pytest.approx(1 - above)


def draw(
    rng: np.random.Generator, effects: Sequence[float], seeds: int, deviation: float
) -> list[Difference]:
    """What a paired comparison of so many seeds finds, for each true effect."""
    scores = rng.normal(np.array(effects)[:, None], deviation, (len(effects), seeds))
    error = scores.std(axis=1, ddof=1) / np.sqrt(seeds)
    return [
        Difference(float(mean), float(e), seeds - 1, "paired", seeds, float(e * np.sqrt(seeds)))
        for mean, e in zip(scores.mean(axis=1), error, strict=True)
    ]


def rate(
    effects: Sequence[float], seeds: int, verdict: Verdict, relation: Relation, count: int = 2000
) -> float:
    """How often a claim of comparisons with these true effects gets a verdict."""
    rng, hits = np.random.default_rng(5), 0
    for _ in range(count):
        one = draw(rng, effects, seeds, 1.0)
        hits += overall([judge(each, relation, 0.5, len(one)) for each in one]) == verdict
    return hits / count


def test_a_true_claim_of_many_comparisons_is_rarely_refuted_and_a_false_one_rarely_borne_out() -> None:
    # as hard as it can be: every effect at the border of the claim
    assert rate([0.0] * 8, 6, "disagree", "higher") < 0.025 + 0.011
    assert rate([0.0, 9.0, 9.0], 6, "agree", "higher") < 0.025 + 0.011
    assert rate([0.5, 0.0], 40, "agree", "similar") < 0.025 + 0.011
    assert rate([-0.5] * 4, 6, "disagree", "no_loss") < 0.025 + 0.011


def test_firm_verdicts_are_right_all_at_once() -> None:
    """Forty claims at their borders: that any of them gets a firm verdict."""
    rng, wrong, count = np.random.default_rng(6), 0, 400
    for _ in range(count):
        wrong += any(firm(draw(rng, [0.0], 6, 1.0), "higher", 0.5, 40) for _ in range(40))
    assert wrong / count < 0.05 + 3 * np.sqrt(0.05 * 0.95 / count)
    assert firm([found(5.0, 0.1)], "higher", 0.5, 40)
    assert not firm([], "higher", 0.5, 40)


def decided(effects: Sequence[float], seeds: int, deviation: float, relation: Relation) -> float:
    rng, hits, count = np.random.default_rng(7), 0, 2000
    for _ in range(count):
        one = draw(rng, effects, seeds, deviation)
        hits += overall([judge(each, relation, 0.5, len(one)) for each in one]) in ("agree", "disagree")
    return hits / count


@pytest.mark.parametrize(
    ("effect", "deviation", "relation"),
    [
        (0.5, 0.8, "higher"),
        (-0.4, 0.9, "higher"),  # refuted
        (0.1, 0.5, "similar"),
        (0.9, 0.8, "similar"),  # refuted
        (-0.1, 0.6, "no_loss"),
        (1.2, 1.5, "no_gain"),  # refuted
    ],
)
def test_so_many_seeds_decide_as_often_as_is_said(
    effect: float, deviation: float, relation: Relation
) -> None:
    open_one = Difference(effect, deviation, 6, "blocked", 1, deviation)
    seeds = seeds_needed([open_one], relation, 0.5)
    assert seeds is not None
    assert 5 < seeds < MOST_SEEDS
    assert decided([effect], seeds, deviation, relation) > POWER - 0.025
    assert decided([effect], seeds - 1, deviation, relation) < POWER + 0.025


def test_of_several_comparisons_all_must_be_told_or_one_be_refuted() -> None:
    def one(effect: float) -> Difference:
        return Difference(effect, 0.8, 6, "blocked", 1, 0.8)

    alone, both = seeds_needed([one(0.5)], "higher", 0.5), seeds_needed([one(0.5)] * 2, "higher", 0.5)
    assert alone is not None
    assert both is not None
    assert both > alone
    assert decided([0.5, 0.5], both, 0.8, "higher") > POWER - 0.025
    against = seeds_needed([one(0.5), one(-0.6)], "higher", 0.5)
    assert against is not None
    assert decided([0.5, -0.6], against, 0.8, "higher") > POWER - 0.025
    # what is told already needs no more
    told = Difference(9.0, 0.1, 6, "blocked", 1, 0.1)
    assert seeds_needed([one(0.5), told], "higher", 0.5) == alone


def test_what_no_number_of_seeds_tells_is_none() -> None:
    assert seeds_needed([Difference(0.01, 1.0, 6, "blocked", 1, 1.0)], "higher", 0.5) is None
    assert seeds_needed([Difference(0.49, 1.0, 6, "blocked", 1, 1.0)], "similar", 0.5) is None
    assert seeds_needed([Difference(0.5, None)], "higher", 0.5) is None
