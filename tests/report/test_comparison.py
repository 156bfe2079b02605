"""Differences and their intervals against SciPy's t-tests; verdicts at their borders."""

import numpy as np
import pytest
from scipy import stats

from regroup.report.comparison import (
    Difference,
    Relation,
    Sample,
    Spread,
    Verdict,
    difference,
    judge,
    overall,
    pooled,
    t95,
)

LEFT, RIGHT = (30.1, 30.9, 30.4), (29.0, 29.9, 29.3)


def sample(scores: tuple[float, ...], name: str = "", *, trained: bool = True) -> Sample:
    by_checkpoint = tuple((f"{name}{k}", score) for k, score in enumerate(scores)) if name else ()
    return Sample(float(np.mean(scores)), len(scores), trained, by_checkpoint)


def test_quantiles_are_those_of_printed_tables() -> None:
    tabulated = {1: 12.706, 2: 4.303, 4: 2.776, 6: 2.447, 10: 2.228, 30: 2.042, 40: 2.021, 120: 1.980}
    for freedom, value in tabulated.items():
        assert t95(freedom) == pytest.approx(value, abs=5e-4)


def test_rows_with_seeds_are_compared_like_an_unpaired_t_test() -> None:
    spread = pooled([(float(np.var(x, ddof=1)), len(x)) for x in (LEFT, RIGHT)])
    found = difference(sample(LEFT, "a"), sample(RIGHT, "b"), spread)
    interval = stats.ttest_ind(LEFT, RIGHT).confidence_interval(0.95)
    assert found.half is not None
    assert found.value - found.half == pytest.approx(interval.low, abs=1e-3)
    assert found.value + found.half == pytest.approx(interval.high, abs=1e-3)


def test_the_same_checkpoints_are_compared_pairwise() -> None:
    found = difference(sample(LEFT, "a"), sample(RIGHT, "a"), Spread(100.0, 4))
    interval = stats.ttest_rel(LEFT, RIGHT).confidence_interval(0.95)
    assert found.half is not None
    assert found.value - found.half == pytest.approx(interval.low, abs=1e-3)
    assert found.value + found.half == pytest.approx(interval.high, abs=1e-3)
    assert difference(sample(LEFT[:1], "a"), sample(RIGHT[:1], "a"), None).half == 0


def test_no_seed_enters_the_pretrained_checkpoint() -> None:
    spread = Spread(0.04, 4)
    one = difference(sample((30.0,)), sample((24.3,), trained=False), spread)
    two = difference(sample((30.0,)), sample((24.3,)), spread)
    assert one.half == pytest.approx(stats.t.ppf(0.975, 4) * 0.2, abs=1e-3)
    assert two.half == pytest.approx(stats.t.ppf(0.975, 4) * 0.2 * np.sqrt(2), abs=1e-3)


def test_without_repeated_runs_there_is_no_spread() -> None:
    assert pooled([(0.0, 1), (0.0, 1)]) is None
    assert difference(sample((30.0,)), sample((24.0,)), None).half is None


@pytest.mark.parametrize(
    ("value", "half", "relation", "verdict"),
    [
        (1.0, 0.9, "higher", "agree"),
        (1.0, 1.1, "higher", "cannot tell"),
        (-1.0, 0.9, "higher", "disagree"),
        (0.0, 0.0, "higher", "disagree"),
        (-1.0, 0.9, "lower", "agree"),
        (-1.0, 1.1, "lower", "cannot tell"),
        (1.0, 0.9, "lower", "disagree"),
        (0.2, 0.2, "similar", "agree"),
        (-0.4, 0.2, "similar", "cannot tell"),
        (0.8, 0.2, "similar", "disagree"),
        (-0.8, 0.2, "similar", "disagree"),
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
    assert judge(Difference(value, half), relation, 0.5) == verdict


def test_a_claim_falls_with_one_comparison_and_stands_with_all() -> None:
    assert overall(["agree", "agree"]) == "agree"
    assert overall(["agree", "cannot tell"]) == "cannot tell"
    assert overall(["agree", "missing"]) == "missing"
    assert overall(["missing", "disagree", "agree"]) == "disagree"
