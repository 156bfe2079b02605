"""Comparing two rows of scores in the light of how much seeds alone move a score.

Which interval a difference gets follows from the runs that there are, never from their scores:

1. Both rows are the same checkpoints, scored in different ways: no seed comes between them, they are compared
   checkpoint by checkpoint.
2. Both rows were trained with `OWN` or more common seeds: a paired t-test over these. A seed is the order of
   the data too, and what it does to one row it does to the other in part. Nothing is assumed of other rows.
3. With fewer common seeds: the mean of the same differences, but its error is from the spread of all rows:
   what is left of it when each row's mean and each seed's effect are taken out (a randomised block design).
   Not where a row is compared with a part of another: a seed's effect does not drop out of that difference.
4. Else, if both are trained: the difference of the means, by the spread between the seeds of a row, pooled
   over all rows with several seeds.
5. One row is not trained: the other's own spread if it has `OWN` or more seeds, else the pooled one.

`OWN` is 5: below, Student's t for the few degrees of freedom costs more than the pooled spread's assumption
that seeds move all rows alike (with three seeds t is 4.30, with five 2.78, pooled about 2).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit  # scipy.stats would take half a second more to import

Relation = Literal["higher", "lower", "similar", "no_gain", "no_loss"]
Verdict = Literal["agree", "disagree", "cannot tell", "missing"]
Method = Literal["same", "paired", "blocked", "pooled", "own", "unknown"]

OWN = 5
"""Seeds from which on a comparison is judged by its own spread alone."""
ONE_SIDED = 0.025
"""Most probability of a wrong verdict: that of one side of a 95% interval."""


def t95(freedom: float) -> float:
    """Two-sided 95% quantile of Student's t."""
    return float(stdtrit(freedom, 1 - ONE_SIDED))


@dataclass(frozen=True)
class Sample:
    """A row's scores on one dataset.

    Attributes:
        mean: over the runs, e.g. mIoU in percent.
        runs: how many runs, each with its own seed.
        trained: False for the pretrained checkpoint, which no seed enters.
        scores: score by checkpoint, where the checkpoints are known.
        seeds: score by seed, where the seeds are known.
    """

    mean: float
    runs: int
    trained: bool
    scores: tuple[tuple[str, float], ...]
    seeds: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Spread:
    """What seeds do to a score on one dataset: variance in squared points, and its degrees of freedom."""

    variance: float
    freedom: int


@dataclass(frozen=True)
class Spreads:
    """The spread over seeds of all rows together; each None where no runs tell it.

    Attributes:
        seeds: between the seeds of a row.
        blocked: the same less what a seed does to all rows alike.
    """

    seeds: Spread | None = None
    blocked: Spread | None = None


UNKNOWN = Spreads()


def pooled(variances: Iterable[tuple[float, int]]) -> Spread | None:
    """One spread from several rows' sample variances and their numbers of runs; None without repeated runs.

    It takes seeds to move all rows alike: rows with one run are judged by the rows with several.
    """
    parts = [(variance, runs - 1) for variance, runs in variances if runs > 1]
    freedom = sum(weight for _, weight in parts)
    if not freedom:
        return None
    return Spread(math.fsum(variance * weight for variance, weight in parts) / freedom, freedom)


def blocked(rows: Iterable[Mapping[int, float]]) -> Spread | None:
    """The spread that rows (score by seed) have around row mean plus seed effect, by least squares.

    None where no two rows share two seeds, so that nothing is left to estimate it from.
    """
    several = [row for row in rows if len(row) > 1]
    numbers = {seed: k for k, seed in enumerate(sorted({seed for row in several for seed in row}))}
    cells = [(k, numbers[seed], row[seed]) for k, row in enumerate(several) for seed in sorted(row)]
    if not cells:
        return None
    design = np.zeros((len(cells), len(several) + len(numbers)))
    for line, (row, seed, _) in enumerate(cells):
        design[line, row] = design[line, len(several) + seed] = 1
    scores = np.array([score for *_, score in cells])
    fitted, _, rank, _ = np.linalg.lstsq(design, scores, rcond=None)
    freedom = len(cells) - int(rank)
    if freedom < 1:
        return None
    variance = float(((scores - design @ fitted) ** 2).sum()) / freedom
    return Spread(variance if variance > 1e-18 else 0.0, freedom)


@dataclass(frozen=True)
class Difference:
    """A difference in points.

    Attributes:
        value: left less right.
        error: its standard error; None where no spread is known, 0 where no seed comes between the two.
        freedom: degrees of freedom of the error.
        method: how they were compared.
        seeds: of how many seeds it is: common ones, or those of the row with fewer.
        deviation: standard deviation of the difference of one more seed; None where it is not known.
    """

    value: float
    error: float | None
    freedom: float = math.inf
    method: Method = "unknown"
    seeds: int = 1
    deviation: float | None = None

    @property
    def half(self) -> float | None:
        """Half the width of the 95% interval."""
        return self.half_at(ONE_SIDED)

    def half_at(self, tail: float) -> float | None:
        """Half the width of an interval that leaves out this probability on each side."""
        if self.error is None:
            return None
        return float(stdtrit(self.freedom, 1 - tail)) * self.error if self.error else 0.0

    def below(self, bound: float) -> float:
        """The p-value of the hypothesis that the true difference is `bound` or more; 1 if none is known."""
        if self.error is None:
            return 1.0
        if not self.error:
            return float(self.value >= bound)
        return float(stdtr(self.freedom, (self.value - bound) / self.error))

    def above(self, bound: float) -> float:
        """The p-value of the hypothesis that it is `bound` or less."""
        mirrored = Difference(-self.value, self.error, self.freedom)
        return mirrored.below(-bound)


def difference(left: Sample, right: Sample, spreads: Spreads, *, factor: float = 1.0) -> Difference:
    """Left less `factor` times right, by the rules above."""
    checkpoints = _paired(dict(left.scores), dict(right.scores), factor)
    if checkpoints is not None and left.runs == right.runs == len(checkpoints):
        error, deviation = _own(checkpoints)
        count = len(checkpoints)
        return Difference(statistics.fmean(checkpoints), error, max(1, count - 1), "same", count, deviation)
    value = left.mean - factor * right.mean
    if left.trained and right.trained:
        a, b = dict(left.seeds), dict(right.seeds)
        common = [a[seed] - factor * b[seed] for seed in sorted(a.keys() & b.keys())]
        if len(common) >= OWN:
            error, deviation = _own(common)
            return Difference(
                statistics.fmean(common), error, len(common) - 1, "paired", len(common), deviation
            )
        if common and factor == 1 and spreads.blocked is not None:
            value = statistics.fmean(common)
            return _by_all(value, spreads.blocked, 2, 1 / len(common), "blocked", len(common))
        if spreads.seeds is None:
            return Difference(value, None, seeds=min(left.runs, right.runs))
        share = (1 / left.runs + factor**2 / right.runs) / (1 + factor**2)
        return _by_all(value, spreads.seeds, 1 + factor**2, share, "pooled", min(left.runs, right.runs))
    if not left.trained and not right.trained:
        return Difference(value, 0.0, method="same", deviation=0.0)
    row, scale = (left, 1.0) if left.trained else (right, factor)
    own = [scale * score for _, score in row.seeds]
    if len(own) >= OWN and len(own) == row.runs:
        error, deviation = _own(own)
        return Difference(value, error, row.runs - 1, "own", row.runs, deviation)
    if spreads.seeds is None:
        return Difference(value, None, seeds=row.runs)
    return _by_all(value, spreads.seeds, scale**2, 1 / row.runs, "pooled", row.runs)


def _by_all(
    value: float, spread: Spread, weight: float, share: float, method: Method, seeds: int
) -> Difference:
    deviation = math.sqrt(spread.variance * weight)
    return Difference(value, deviation * math.sqrt(share), spread.freedom, method, seeds, deviation)


def _paired(left: Mapping[str, float], right: Mapping[str, float], factor: float) -> Sequence[float] | None:
    if not left or left.keys() != right.keys():
        return None
    return [left[key] - factor * right[key] for key in sorted(left)]


def _own(values: Sequence[float]) -> tuple[float, float]:
    """Standard error of the mean and standard deviation; of a single value both are 0: it is what it is."""
    if len(values) < 2:
        return 0.0, 0.0
    deviation = statistics.stdev(values)
    return deviation / math.sqrt(len(values)), deviation
