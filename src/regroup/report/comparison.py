"""Comparing two rows of scores in the light of how much seeds alone move a score."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtrit  # scipy.stats would take half a second more to import

Relation = Literal["higher", "lower", "similar", "no_gain", "no_loss"]
Verdict = Literal["agree", "disagree", "cannot tell", "missing"]


def t95(freedom: int) -> float:
    """Two-sided 95% quantile of Student's t."""
    return float(stdtrit(freedom, 0.975))


@dataclass(frozen=True)
class Sample:
    """A row's scores on one dataset.

    Attributes:
        mean: mIoU in percent, over the runs.
        runs: how many runs, each with its own seed.
        trained: False for the pretrained checkpoint, which no seed enters.
        scores: score by checkpoint, where the checkpoints are known.
    """

    mean: float
    runs: int
    trained: bool
    scores: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Spread:
    """What seeds do to a score on one dataset: variance in squared points, and its degrees of freedom."""

    variance: float
    freedom: int


def pooled(variances: Iterable[tuple[float, int]]) -> Spread | None:
    """One spread from several rows' sample variances and their numbers of runs; None without repeated runs.

    It takes seeds to move all rows alike: rows with one run are judged by the rows with several.
    """
    parts = [(variance, runs - 1) for variance, runs in variances if runs > 1]
    freedom = sum(weight for _, weight in parts)
    if not freedom:
        return None
    return Spread(math.fsum(variance * weight for variance, weight in parts) / freedom, freedom)


@dataclass(frozen=True)
class Difference:
    """A difference in points with the half width of its 95% interval; None where the spread is unknown."""

    value: float
    half: float | None


def difference(left: Sample, right: Sample, spread: Spread | None) -> Difference:
    """Left less right.

    Rows that come from the same checkpoints (other inference settings, say) are compared checkpoint by
    checkpoint: no seed comes between them, and with one checkpoint the difference is exact for it.
    """
    paired = _paired(left, right)
    if paired is not None:
        half = 0.0
        if len(paired) > 1:
            half = t95(len(paired) - 1) * statistics.stdev(paired) / math.sqrt(len(paired))
        return Difference(statistics.fmean(paired), half)
    value = left.mean - right.mean
    if spread is None:
        return Difference(value, None)
    share = sum(1 / sample.runs for sample in (left, right) if sample.trained)
    return Difference(value, t95(spread.freedom) * math.sqrt(spread.variance * share))


def _paired(left: Sample, right: Sample) -> Sequence[float] | None:
    ours, theirs = dict(left.scores), dict(right.scores)
    if not ours or set(ours) != set(theirs):
        return None
    return [ours[key] - theirs[key] for key in sorted(ours)]


def judge(found: Difference, relation: Relation, margin: float) -> Verdict:
    """Whether a difference bears a relation out, given its interval.

    Agree: the whole interval does. Disagree: none of it does. Cannot tell: part of it, or no interval known.
    """
    if found.half is None:
        return "cannot tell"
    low, high = found.value - found.half, found.value + found.half
    match relation:
        case "higher":
            agree, disagree = low > 0, high <= 0
        case "lower":
            agree, disagree = high < 0, low >= 0
        case "similar":
            agree, disagree = -margin <= low and high <= margin, low > margin or high < -margin
        case "no_gain":
            agree, disagree = high <= margin, low > margin
        case "no_loss":
            agree, disagree = low >= -margin, high < -margin
    return "agree" if agree else "disagree" if disagree else "cannot tell"


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim over several comparisons: one that disagrees refutes it, all must agree to bear it out."""
    if "disagree" in verdicts:
        return "disagree"
    if "missing" in verdicts:
        return "missing"
    return "agree" if all(verdict == "agree" for verdict in verdicts) else "cannot tell"
