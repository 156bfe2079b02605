"""From differences to verdicts: what bears a claim out, what refutes it, how many seeds would tell it.

A claim of several comparisons is borne out by all of them together, each tested at the full level: no
correction is needed, since the worst decides (an intersection-union test). One comparison is enough to refute
it, so with k of them each is tested at a k-th of the level (Bonferroni). "Similar", "no gain" and "no loss"
are tests of equivalence: the whole interval must lie within the margin (two one-sided tests).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr, stdtrit

from regroup.report.comparison import ONE_SIDED, OWN, Difference, Relation, Verdict

POWER = 0.8
"""Probability with which so many seeds decide a claim, were the present effects the true ones."""
MOST_SEEDS = 100
"""Above, it is hopeless, and no number is told."""


Region = tuple[float, float]


def _region(relation: Relation, margin: float) -> Region:
    """Between which bounds the true difference lies if the relation holds."""
    return {
        "higher": (0.0, math.inf),
        "lower": (-math.inf, 0.0),
        "similar": (-margin, margin),
        "no_gain": (-math.inf, margin),
        "no_loss": (-margin, math.inf),
    }[relation]


def p_agree(found: Difference, relation: Relation, margin: float) -> float:
    """The p-value of the hypothesis that the relation does not hold; 0 or 1 where no chance is in it."""
    if found.error == 0:
        return 1 - float(holds(found, relation, margin))
    low, high = _region(relation, margin)
    return max(found.above(low), found.below(high))


def p_disagree(found: Difference, relation: Relation, margin: float) -> float:
    """The p-value of the hypothesis that it holds."""
    if found.error == 0:
        return float(holds(found, relation, margin))
    low, high = _region(relation, margin)
    return min(found.below(low), found.above(high))


def holds(found: Difference, relation: Relation, margin: float) -> bool:
    """Whether the difference itself is as claimed, chance aside; 0 is neither higher nor lower."""
    low, high = _region(relation, margin)
    return low <= found.value <= high and not (found.value == 0 and relation in ("higher", "lower"))


def judge(found: Difference, relation: Relation, margin: float, among: int = 1) -> Verdict:
    """Whether a difference bears a relation out, given its interval.

    Agree: the whole 95% interval does. Disagree: none of it does; as one of several comparisons (`among`) of
    a claim, none of an interval that is as much wider as so many chances ask for. Cannot tell: all else.
    """
    if p_disagree(found, relation, margin) <= ONE_SIDED / among:
        return "disagree"
    return "agree" if p_agree(found, relation, margin) <= ONE_SIDED else "cannot tell"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim over several comparisons: one that disagrees refutes it, all must agree to bear it out."""
    if "disagree" in verdicts:
        return "disagree"
    if "missing" in verdicts or not verdicts:
        return "missing"
    return "agree" if all(verdict == "agree" for verdict in verdicts) else "cannot tell"


def firm(found: Sequence[Difference], relation: Relation, margin: float, claims: int) -> bool:
    """Whether a verdict would also stand if all `claims` of a study had to be right at once (Bonferroni)."""
    if not found:
        return False
    refuted = min(p_disagree(one, relation, margin) for one in found) * len(found)
    borne_out = max(p_agree(one, relation, margin) for one in found)
    return min(refuted, borne_out) <= ONE_SIDED / claims


def seeds_needed(found: Sequence[Difference], relation: Relation, margin: float) -> int | None:
    """How many seeds of each row would decide a claim that is open.

    With the present effects and spreads as the true ones, so many seeds decide it with a probability of
    `POWER` or more, each comparison by its own spread. None: more than `MOST_SEEDS`, or a spread is not
    known.

    Args:
        found: the claim's comparisons.
        relation: what is claimed of each.
        margin: of "similar" and its like.
    """
    contrary = [one for one in found if not holds(one, relation, margin)]
    if contrary:  # one is enough to refute it
        numbers = [
            _needed(one, _opposite(relation, margin), ONE_SIDED / len(found), POWER) for one in contrary
        ]
        return min((number for number in numbers if number is not None), default=None)
    open_ones = [one for one in found if p_agree(one, relation, margin) > ONE_SIDED]
    miss = (1 - POWER) / max(1, len(open_ones))  # the chances to miss one add up at most
    numbers = [_needed(one, [_region(relation, margin)], ONE_SIDED, 1 - miss) for one in open_ones]
    every = [number for number in numbers if number is not None]
    return max(every) if every and len(every) == len(numbers) else None


def _opposite(relation: Relation, margin: float) -> list[Region]:
    low, high = _region(relation, margin)
    return [(a, b) for a, b in ((-math.inf, low), (high, math.inf)) if a < b]


def _needed(found: Difference, regions: Sequence[Region], tail: float, power: float) -> int | None:
    if not found.deviation:
        return None
    effect, bounds = found.value / found.deviation, tuple(_scaled(r, found.deviation) for r in regions)
    if _power(MOST_SEEDS, effect, bounds, tail) < power:
        return None
    low, high = OWN, MOST_SEEDS
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(middle, effect, bounds, tail) >= power else (middle + 1, high)
    return low


def _scaled(region: Region, deviation: float) -> Region:
    return region[0] / deviation, region[1] / deviation


def _power(seeds: int, effect: float, regions: Sequence[Region], tail: float) -> float:
    """Probability that the interval of `seeds` differences lies within one of some regions.

    Differences are normal with standard deviation 1 around `effect`; the interval is Student's, from their
    own spread: the normal probability for each possible spread, averaged over those (chi-squared).
    """
    spreads = _possible_spreads(seeds - 1)
    half = float(stdtrit(seeds - 1, 1 - tail)) * spreads / math.sqrt(seeds)
    total = np.zeros_like(spreads)
    for low, high in regions:
        reach = ndtr((high - half - effect) * math.sqrt(seeds)) - ndtr(
            (low + half - effect) * math.sqrt(seeds)
        )
        total += np.maximum(0.0, reach)
    return float(total.mean())


@cache
def _possible_spreads(freedom: int) -> NDArray[np.float64]:
    """Sample standard deviations of unit normals, at 400 equally likely places."""
    places = (np.arange(400) + 0.5) / 400
    return np.asarray(np.sqrt(chdtri(freedom, places) / freedom), dtype=np.float64)
