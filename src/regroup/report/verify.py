"""What was made beside what is checked in: which scores differ, and whether by more than chance.

Two files that git has tell it: `scores.csv` and `what_moved.md`. Another processor gives other last digits,
and training carries them into the scores, so equal scores cannot be asked for. What can:

- A score of a trained checkpoint differs by less than two seeds do (95%, as in the notes of the tables), by
  the spread of the checked-in rows with several seeds; without such rows by at most `PROCESSORS.largest`.
- The mean difference on a dataset is within the same, divided by the root of the number of scores: what
  moves all scores a little is no chance.
- A score that no training enters differs by no more than `UNTRAINED`.
- No score that is checked in is missing, and no claim goes from `agree` to `disagree` or back.
"""

from __future__ import annotations

import csv
import io
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from regroup.errors import RegroupError
from regroup.report.comparison import pooled, t95

SCORES = "scores.csv"
CLAIMS = "what_moved.md"
VERDICTS = ("agree", "disagree", "cannot tell", "missing")


class Measured(NamedTuple):
    """Points between two runs of the whole study that differ in the processor alone."""

    largest: float
    deviation: float
    """Root mean square over all scores."""


PROCESSORS = Measured(0.71, 0.16)
"""mini on an Intel processor with AVX-512 beside an AMD EPYC with AVX2: 196 scores."""
UNTRAINED = 0.01
"""Points: seen were 0.0001, and a score is printed with two decimals."""

Scores = Mapping[tuple[str, str], float]
"""(run, dataset) -> mIoU in percent; a run is called `VARIANT seed N`, one without a seed as its variant."""
_SEED = " seed "
Claims = Mapping[tuple[str, str], str]
"""(table, claim) -> verdict on our numbers."""


@dataclass(frozen=True)
class Difference:
    """One score that is not the same."""

    variant: str
    dataset: str
    before: float
    now: float
    limit: float

    @property
    def points(self) -> float:
        """Now less before, as the two are printed."""
        return round(self.now - self.before, 2)

    @property
    def within(self) -> bool:
        """Whether chance explains it."""
        return abs(self.points) <= self.limit


@dataclass(frozen=True)
class Turn:
    """One claim whose verdict is not the same."""

    table: str
    claim: str
    before: str
    now: str

    @property
    def sides(self) -> bool:
        """Whether it changed sides, and did not only become clearer or less clear."""
        return {self.before, self.now} == {"agree", "disagree"}


@dataclass(frozen=True)
class Verification:
    """What was found."""

    against: str
    """What was compared with: `HEAD (b8db1ec)`."""
    compared: int
    differences: Sequence[Difference]
    """Largest first."""
    shifts: Mapping[str, tuple[float, float]]
    """Dataset -> mean difference of all scores in points, and its limit, where it is beyond."""
    turns: Sequence[Turn] | None
    """None where the claims could not be compared."""
    lost: Sequence[str]
    """Scores that are checked in and were not made: `ge on voc`."""
    new: int
    """Scores that were made and are not checked in."""

    @property
    def deviation(self) -> float:
        """Root mean square of the differences, in points, over all compared scores."""
        squares = math.fsum(one.points**2 for one in self.differences)
        return math.sqrt(squares / self.compared) if self.compared else 0.0

    @property
    def outside(self) -> Sequence[Difference]:
        """Those that chance does not explain."""
        return [one for one in self.differences if not one.within]

    @property
    def within(self) -> bool:
        """Whether all is as another processor or another seed may leave it."""
        turned = any(turn.sides for turn in self.turns or ())
        return not (self.outside or self.shifts or self.lost or turned)


def verify(
    before: Scores,
    now: Scores,
    *,
    seeds: Iterable[Set[str]],
    untrained: Set[str],
    turns: Sequence[Turn] | None,
    against: str,
) -> Verification:
    """Compare scores.

    Args:
        before: what is checked in.
        now: what was made.
        seeds: sets of variants whose runs differ in nothing but the seed.
        untrained: variants that are scored as they came.
        turns: claims whose verdict changed; None where they cannot be compared.
        against: what `before` is, in words.
    """
    both = [key for key in before if key in now]
    limits = _limits(before, [sorted(some) for some in seeds])
    changed = [
        Difference(
            variant,
            dataset,
            before[variant, dataset],
            now[variant, dataset],
            UNTRAINED if variant_of(variant) in untrained else limits.get(dataset, PROCESSORS.largest),
        )
        for variant, dataset in both
        if before[variant, dataset] != now[variant, dataset]
    ]
    trained = [(variant, dataset) for variant, dataset in both if variant_of(variant) not in untrained]
    return Verification(
        against,
        len(both),
        sorted(changed, key=lambda one: (-abs(one.points), one.variant, one.dataset)),
        _shifts(before, now, trained, limits),
        turns,
        [f"{variant} on {dataset}" for variant, dataset in before if (variant, dataset) not in now],
        sum(key not in before for key in now),
    )


def _shifts(
    before: Scores, now: Scores, trained: Sequence[tuple[str, str]], limits: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """Datasets on which the trained variants together moved further than chance: how far, and the limit."""
    shifts = {}
    for dataset in dict.fromkeys(dataset for _, dataset in trained):
        moved = [now[key] - before[key] for key in trained if key[1] == dataset]
        mean = statistics.fmean(moved)
        limit = limits.get(dataset, PROCESSORS.largest) / math.sqrt(len(moved))
        if len(moved) > 1 and abs(mean) > limit:
            shifts[dataset] = (mean, limit)
    return shifts


def _limits(scores: Scores, seeds: Sequence[Sequence[str]]) -> dict[str, float]:
    """Dataset -> points that two runs differ by chance (95%); without several seeds it is left out."""
    limits = {}
    for dataset in dict.fromkeys(dataset for _, dataset in scores):
        rows = [
            [scores[key] for key in scores if key[1] == dataset and variant_of(key[0]) in some]
            for some in dict.fromkeys(map(tuple, seeds))
        ]
        spread = pooled((statistics.variance(row), len(row)) for row in rows if len(row) > 1)
        if spread is not None:
            limits[dataset] = t95(spread.freedom) * math.sqrt(2 * spread.variance)
    return limits


def read_scores(text: str, name: str) -> Scores:
    """The scores of a `scores.csv`; empty cells are left out. One without seeds is of an earlier state.

    Raises:
        RegroupError: it is none; the message has `name`, and the line.
    """
    lines = list(csv.reader(io.StringIO(text)))
    if not lines or lines[0][:1] != ["variant"] or len(set(lines[0])) < max(2, len(lines[0])):
        raise RegroupError(f"{name}: no scores.csv as the stage `tables` writes it; run that stage again")
    head, found = lines[0], {}
    names = 2 if head[1] == "seed" else 1
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(head):
            raise RegroupError(f"{name}:{number}: {len(line)} values where the heading has {len(head)}")
        run = f"{line[0]}{_SEED}{line[1]}" if names == 2 and line[1] else line[0]
        for dataset, cell in zip(head[names:], line[names:], strict=True):
            if not cell:
                continue
            try:
                value = float(cell)
            except ValueError:
                value = math.nan
            if not 0 <= value <= 100 or (run, dataset) in found:
                what = "is there twice" if (run, dataset) in found else f"{cell!r} is no percentage"
                raise RegroupError(f"{name}:{number}: {run} on {dataset}: {what}")
            found[run, dataset] = value
    return found


def variant_of(run: str) -> str:
    """The variant of a run, as `Scores` calls it."""
    return run.partition(_SEED)[0]


def read_claims(text: str, name: str) -> Claims:
    """The verdicts on our numbers in a `what_moved.md`.

    Raises:
        RegroupError: it is none; the message has `name`.
    """
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    found = {}
    for row in cells[1:]:
        if set(row) == {"---"}:
            continue
        verdict = row[-1].partition(",")[0]
        if len(row) < 4 or verdict not in VERDICTS:
            raise RegroupError(f"{name}: no verdict in {' | '.join(row)}; run the stage `tables` again")
        found[row[0], row[1]] = verdict
    if not found:
        raise RegroupError(f"{name}: has no claims; run the stage `tables` again")
    return found


def turned(before: Claims, now: Claims) -> list[Turn]:
    """The claims in both whose verdict is not the same."""
    return [
        Turn(*key, verdict, now[key]) for key, verdict in before.items() if now.get(key, verdict) != verdict
    ]
