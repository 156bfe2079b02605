"""The claims of a study, put to the published numbers and to ours."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from regroup.report import judging
from regroup.report.claims import Claim, Claims
from regroup.report.columns import Column, in_order
from regroup.report.comparison import (
    Difference,
    Sample,
    Spreads,
    Verdict,
    difference,
)
from regroup.report.measures import SIDES, ClassIoU, OfImages, read_images
from regroup.report.reference import Reference, RowRef
from regroup.report.samples import Ours, Theirs, VariantRuns


@dataclass(frozen=True)
class Outcome:
    """How one comparison came out on one set of numbers: the difference, and whether it bears the claim out.

    `holds` looks at the difference alone, `verdict` also at the spread of seeds.
    """

    found: Difference | None
    holds: bool
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """One pair of rows in one column (and class), in the thesis's numbers and in ours."""

    left: str
    right: str
    column: Column | None
    part: str
    thesis: Outcome
    ours: Outcome
    left_runs: tuple[VariantRuns, ...] = ()
    right_runs: tuple[VariantRuns, ...] = ()
    """The runs that ours is made of."""


@dataclass(frozen=True)
class Side:
    """What one set of numbers says of a claim.

    `firm`: also if all claims of the study had to be right at once. `seeds`: with how many seeds of each row
    an open claim would be decided; None where it is decided, or that is hopeless.
    """

    verdict: Verdict
    firm: bool
    seeds: int | None


@dataclass(frozen=True)
class ClaimResult:
    """A claim with all its comparisons.

    `absent` are classes that the profile's world has not; `total` is the number of claims of the study.
    """

    claim: Claim
    comparisons: tuple[Comparison, ...]
    margin: float
    total: int
    absent: tuple[str, ...] = ()

    @property
    def thesis(self) -> Verdict:
        """What the thesis's own numbers say, given its own seeds."""
        return judging.overall([one.thesis.verdict for one in self.comparisons])

    @property
    def ours(self) -> Verdict:
        """What our numbers say, given our seeds."""
        return judging.overall([one.ours.verdict for one in self.comparisons])

    @cached_property
    def our_side(self) -> Side:
        """Ours, with what would decide it."""
        verdict, relation = self.ours, self.claim.relation
        found = [one.ours.found for one in self.comparisons if one.ours.found is not None]
        decided = verdict in ("agree", "disagree")
        seeds = judging.seeds_needed(found, relation, self.margin) if verdict == "cannot tell" else None
        return Side(verdict, decided and judging.firm(found, relation, self.margin, self.total), seeds)

    def decisive(self, at: Callable[[Comparison], Outcome]) -> Comparison | None:
        """The comparison that a verdict hangs on: the one that refutes most clearly, else the weakest."""
        there = [(one, found) for one in self.comparisons if (found := at(one).found) is not None]
        if not there:
            return None
        relation = self.claim.relation
        if judging.overall([at(one).verdict for one in self.comparisons]) == "disagree":
            return min(there, key=lambda pair: judging.p_disagree(pair[1], relation, self.margin))[0]
        return max(there, key=lambda pair: judging.p_agree(pair[1], relation, self.margin))[0]


@dataclass(frozen=True)
class WhatMoved:
    """Every claim of a study, checked.

    `seeded` are our rows with several seeds, whose spread all others are judged by.
    """

    profile: str
    drawn: bool
    margin: float
    spreads: Mapping[Column, Spreads]
    seeded: tuple[RowRef, ...]
    results: tuple[ClaimResult, ...]


def check_claims(
    runs: Mapping[int, Mapping[str, Sequence[Path]]],
    *,
    profile: str,
    drawn: bool,
    claims: Claims,
    reference: Reference,
    measures: Path | None = None,
) -> WhatMoved:
    """Check every claim on the published numbers and on ours.

    Args:
        runs: table -> row id -> metrics files (several: seeds). An experiment that is printed in several
            tables need only be given for one of them.
        profile: the profile that all files must be from.
        drawn: whether its data is drawn.
        claims: what to check.
        reference: the tables of the study.
        measures: folder of what the stage `figures` measured of images; None: there is none.

    Raises:
        RegroupError: an unknown table or row, or a file that is malformed or of another profile.
    """
    ours = Ours(reference, runs, profile)
    theirs = Theirs(reference)
    results = []
    for claim in claims.claims:
        absent: tuple[str, ...] = ()
        if isinstance(claim.measure, OfImages):
            comparisons = _of_images(claim, claims.margin, measures)
        else:
            comparisons, absent = _of_rows(claim, claims.margin, ours, theirs)
        results.append(ClaimResult(claim, comparisons, claims.margin, len(claims.claims), absent))
    columns = in_order(column for table in reference.tables for column in table.columns)
    spreads = {column: ours.spreads(None, column, "") for column in columns}
    return WhatMoved(profile, drawn, claims.margin, spreads, ours.seeded, tuple(results))


def _of_rows(
    claim: Claim, margin: float, ours: Ours, theirs: Theirs
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """All comparisons of a claim, and the classes that are not judged."""
    measure = claim.measure
    assert not isinstance(measure, OfImages)
    refs = [claim.ref(name) for name in (*claim.rows, *claim.to)]
    classes = measure.classes if isinstance(measure, ClassIoU) else ()
    absent = tuple(
        name for name in classes if all(ours.lacks(ref, c, name) for ref in refs for c in claim.columns)
    )
    parts = [part for part in claim.parts if part not in absent]
    pairs = [
        (claim.ref(left), claim.ref(right), column, part)
        for left in claim.rows
        for right in claim.to
        for column in claim.columns
        for part in parts
    ]
    among = len(pairs)
    found = []
    for left, right, column, part in pairs:
        other = claim.to_column or column
        mine = ours.sample(left, (measure, column, part)), ours.sample(right, (measure, other, part))
        # nothing but cells of tables is printed as a number
        printed = (
            (theirs.sample(left, column), theirs.sample(right, other)) if measure is None else (None, None)
        )
        found.append(
            Comparison(
                left=ours.label(left, claim.table),
                right=ours.label(right, claim.table),
                column=column,
                part=part,
                thesis=_outcome(claim, *printed, theirs.spreads(other), margin, among),
                ours=_outcome(claim, *mine, ours.spreads(measure, column, part), margin, among),
                left_runs=ours.filled_by(left),
                right_runs=ours.filled_by(right),
            )
        )
    return tuple(found), absent


def _of_images(claim: Claim, margin: float, folder: Path | None) -> tuple[Comparison, ...]:
    measure = claim.measure
    assert isinstance(measure, OfImages)
    read, titles = read_images(folder, measure.of), SIDES[measure.of]

    def sample(side: str) -> Sample | None:
        values = {} if read is None else read.values.get(side, {})
        if not values:
            return None
        return Sample(statistics.fmean(values.values()), len(values), False, tuple(values.items()))

    def runs(side: str) -> tuple[VariantRuns, ...]:
        return (VariantRuns(read.runs[side]),) if read is not None and side in read.runs else ()

    pairs = [(left, right) for left in claim.rows for right in claim.to]
    nothing = Outcome(None, False, "missing")
    return tuple(
        Comparison(
            left=titles[left],
            right=titles[right],
            column=None,
            part="",
            thesis=nothing,
            ours=_outcome(claim, sample(left), sample(right), Spreads(), margin, len(pairs)),
            left_runs=runs(left),
            right_runs=runs(right),
        )
        for left, right in pairs
    )


def _outcome(
    claim: Claim, left: Sample | None, right: Sample | None, spreads: Spreads, margin: float, among: int
) -> Outcome:
    if left is None or right is None:
        return Outcome(None, False, "missing")
    found = difference(left, right, spreads, factor=claim.factor)
    return Outcome(
        found,
        judging.holds(found, claim.relation, margin),
        judging.judge(found, claim.relation, margin, among),
    )
