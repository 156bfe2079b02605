"""The claims of a study, put to the published numbers and to ours."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from regroup.metrics import METRICS
from regroup.report import judging
from regroup.report.claims import Claim, Claims
from regroup.report.columns import Column, in_order
from regroup.report.comparison import (
    Difference,
    Sample,
    Spread,
    Spreads,
    Verdict,
    blocked,
    difference,
    pooled,
)
from regroup.report.measures import SIDES, ClassIoU, Early, OfImages, RunValues, read_images
from regroup.report.reference import Reference, RowRef
from regroup.report.scores import Run, read_runs

Measured = Early | ClassIoU | None
Key = tuple[Measured, Column, str]
"""What spreads are of: the measure, the column, and the class where classes are compared."""


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
    left_runs: str = ""
    right_runs: str = ""
    """The runs that ours is made of: `ge-384 (seeds 0, 100, 123)`."""


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
                left_runs=ours.names(left),
                right_runs=ours.names(right),
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
            left_runs="" if read is None else read.runs.get(left, ""),
            right_runs="" if read is None else read.runs.get(right, ""),
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


@dataclass(frozen=True)
class Ours:
    """Our runs by the experiment that they are of, and what seeds do to their values."""

    reference: Reference
    given: Mapping[int, Mapping[str, Sequence[Path]]]
    profile: str
    values: RunValues = field(default_factory=RunValues)
    _spreads: dict[Key, Spreads] = field(default_factory=dict)

    @cached_property
    def files(self) -> Mapping[RowRef, Sequence[Path]]:
        """The metrics files of each experiment, under the first row that it is printed in."""
        files: dict[RowRef, set[Path]] = {}
        for number, rows in self.given.items():
            for row, paths in rows.items():
                self.reference.table(number).row(row)
                files.setdefault(self.reference.first(RowRef(table=number, row=row)), set()).update(paths)
        return {ref: sorted(paths) for ref, paths in files.items()}

    @cached_property
    def runs(self) -> Mapping[RowRef, Sequence[Run]]:
        """Those that are there."""
        return {ref: read_runs(paths, profile=self.profile) for ref, paths in self.files.items()}

    def at(self, ref: RowRef) -> Sequence[Run]:
        """The runs of a row."""
        return self.runs.get(self.reference.first(ref), ())

    def lacks(self, ref: RowRef, column: Column, part: str) -> bool:
        """Whether a row was scored class by class, and has no such class."""
        some = [run for run in self.at(ref) if self.values.scored(run)]
        measure = ClassIoU(kind="class_iou", classes=(part,))
        return bool(some) and all(self.values.value(run, column, measure, part) is None for run in some)

    def sample(self, ref: RowRef, key: Key) -> Sample | None:
        """A row's values; None where it has none."""
        measure, column, part = key
        some = [
            (run, value)
            for run in self.at(ref)
            if (value := self.values.value(run, column, measure, part)) is not None
        ]
        return sample_of(some, trained=self.reference.table(ref.table).row(ref.row).trained)

    @cached_property
    def seeded(self) -> tuple[RowRef, ...]:
        """Rows with several runs; where another row has the very same ones, only the first."""
        found: dict[frozenset[str], RowRef] = {}
        for ref in sorted(self.runs, key=lambda ref: (ref.table, ref.row)):
            if len(self.runs[ref]) > 1:
                found.setdefault(frozenset(run.weights for run in self.runs[ref]), ref)
        return tuple(found.values())

    def spreads(self, measure: Measured, column: Column, part: str) -> Spreads:
        """What seeds do to a value, from all rows with several."""
        key = measure, column, part
        if key not in self._spreads:
            self._spreads[key] = spreads_of(self.sample(ref, key) for ref in self.seeded)
        return self._spreads[key]

    def label(self, ref: RowRef, table: int) -> str:
        """A row in words, with its table where that is not `table`."""
        name = " · ".join(self.reference.table(ref.table).row(ref.row).labels)
        return name if ref.table == table else f"{name} (table {ref.table})"

    def names(self, ref: RowRef) -> str:
        """The runs of a row: `ge-384 (seeds 0, 100, 123)`; those that are not there yet say so."""
        seeds: dict[str, list[int]] = {}
        for run in self.at(ref):
            seeds.setdefault(run.variant, []).extend([] if run.seed is None else [run.seed])
        said = [
            f"{name} (seed{'s' if len(some) > 1 else ''} {', '.join(map(str, sorted(some)))})"
            if some
            else name
            for name, some in seeds.items()
        ]
        absent = {
            run_folder(path).name for path in self.files.get(self.reference.first(ref), ())
        } - seeds.keys()
        if not seeds:
            said += [f"{name} (not there)" for name in sorted(absent)]
        return ", ".join(said) or "nothing fills it"


@dataclass(frozen=True)
class Theirs:
    """The thesis's numbers."""

    reference: Reference

    def sample(self, ref: RowRef, column: Column) -> Sample | None:
        """A printed cell; None where there is none."""
        table = self.reference.table(ref.table)
        value = table.value(ref.row, column)
        if value is None:
            return None
        row = table.row(ref.row)
        checkpoint = (
            f"table {table.number}" if table.one_checkpoint else None if row.trained else "pretrained"
        )
        return Sample(value, row.runs, row.trained, ((checkpoint, value),) if checkpoint else ())

    def spreads(self, column: Column) -> Spreads:
        """From the rows that are printed with a variance."""
        rows = [(t.std(row.id, column), row.runs) for t in self.reference.tables for row in t.rows]
        spread: Spread | None = pooled((std**2, runs) for std, runs in rows if std is not None)
        return Spreads(spread)


def sample_of(values: Sequence[tuple[Run, float]], *, trained: bool) -> Sample | None:
    """Values of a row's runs as one sample; None without any."""
    if not values:
        return None
    seeds = [(run.seed, value) for run, value in values if run.seed is not None]
    distinct = len({seed for seed, _ in seeds}) == len(values)
    return Sample(
        statistics.fmean(value for _, value in values),
        len(values),
        trained,
        tuple((run.weights, value) for run, value in values),
        tuple(sorted(seeds)) if distinct else (),
    )


def spreads_of(rows: Iterable[Sample | None]) -> Spreads:
    """What seeds do, from rows with several."""
    several = [row for row in rows if row is not None and row.runs > 1]
    variances = [(statistics.variance(value for _, value in row.scores), row.runs) for row in several]
    return Spreads(pooled(variances), blocked(dict(row.seeds) for row in several))


def run_folder(path: Path) -> Path:
    """The folder of a variant that a metrics file is in, whether of its first seed or of a further one."""
    folder = path.parent if path.name == METRICS else path.with_suffix("")
    return folder.parents[1] if folder.parent.name == "seeds" else folder
