"""What a study concludes from its tables, checked on the published numbers and on ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from regroup.errors import RegroupError
from regroup.report.columns import Column, in_order
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
)
from regroup.report.reference import Reference, RowRef
from regroup.report.scores import Run, read_runs, score
from regroup.settings import Settings, parse, read_yaml


class Claim(Settings):
    """One conclusion: each of `rows` against each of `to`, in each of `columns`."""

    id: str
    table: int
    section: str
    text: str
    rows: tuple[str, ...] = Field(min_length=1)
    to: tuple[str, ...] = Field(min_length=1)
    columns: tuple[Column, ...] = Field(min_length=1)
    relation: Relation

    def ref(self, row: str) -> RowRef:
        """A row as it is named in this claim: `row`, or `table/row` for another table's."""
        table, _, name = row.rpartition("/")
        return RowRef(table=int(table) if table else self.table, row=name)


class Claims(Settings):
    """All claims, and the margin of "similar" in percentage points."""

    margin: float = Field(gt=0)
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        if len({claim.id for claim in self.claims}) < len(self.claims):
            raise ValueError("two claims have the same id")
        return self


NO_CLAIMS = Claims(margin=0.5, claims=())
"""Of a study that concludes nothing."""


def load_claims(path: Path, *, reference: Reference) -> Claims:
    """Read and check the claims of a study; it may have none.

    Raises:
        RegroupError: an unknown key, table, row, or a column that a row's table does not have.
    """
    if not path.is_file():
        return NO_CLAIMS
    claims = parse(Claims, read_yaml(path), path)
    for claim in claims.claims:
        for name in (*claim.rows, *claim.to):
            try:
                ref = claim.ref(name)
                table = reference.table(ref.table)
                table.row(ref.row)
            except (RegroupError, ValueError) as error:
                raise RegroupError(f"{path}: claim {claim.id}: {name}: {error}") from None
            if unknown := set(claim.columns) - set(table.columns):
                raise RegroupError(
                    f"{path}: claim {claim.id}: table {ref.table} has no {', '.join(sorted(unknown))}"
                )
    return claims


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
    """One pair of rows in one column, in the thesis's numbers and in ours."""

    left: RowRef
    right: RowRef
    column: Column
    thesis: Outcome
    ours: Outcome


@dataclass(frozen=True)
class ClaimResult:
    """A claim with all its comparisons."""

    claim: Claim
    comparisons: tuple[Comparison, ...]

    @property
    def thesis(self) -> Verdict:
        """What the thesis's own numbers say, given its own seeds."""
        return overall([comparison.thesis.verdict for comparison in self.comparisons])

    @property
    def ours(self) -> Verdict:
        """What our numbers say, given our seeds."""
        return overall([comparison.ours.verdict for comparison in self.comparisons])


@dataclass(frozen=True)
class WhatMoved:
    """Every claim of a study, checked.

    `seeded` are our rows with several seeds, whose spread all others are judged by.
    """

    profile: str
    drawn: bool
    margin: float
    spreads: Mapping[Column, Spread | None]
    seeded: tuple[RowRef, ...]
    results: tuple[ClaimResult, ...]


def check_claims(
    runs: Mapping[int, Mapping[str, Sequence[Path]]],
    *,
    profile: str,
    drawn: bool,
    claims: Claims,
    reference: Reference,
) -> WhatMoved:
    """Check every claim on the published numbers and on ours.

    Args:
        runs: table -> row id -> metrics files (several: seeds). An experiment that is printed in several
            tables need only be given for one of them.
        profile: the profile that all files must be from.
        drawn: whether its data is drawn.
        claims: what to check.
        reference: the tables of the study.

    Raises:
        RegroupError: an unknown table or row, or a metrics file that is malformed or of another profile.
    """
    ours = _our_runs(runs, reference, profile)
    seeded = _seeded(ours)
    columns = in_order(column for table in reference.tables for column in table.columns)
    our_spreads = {column: _our_spread([ours[ref] for ref in seeded], column) for column in columns}
    their_spreads = {column: _their_spread(reference, column) for column in columns}

    def ours_at(ref: RowRef, column: Column) -> Sample | None:
        return _our_sample(reference, ours, ref, column)

    def theirs_at(ref: RowRef, column: Column) -> Sample | None:
        return _their_sample(reference, ref, column)

    results = []
    for claim in claims.claims:
        comparisons = [
            Comparison(
                left=claim.ref(left),
                right=claim.ref(right),
                column=column,
                thesis=_outcome(claim, left, right, column, theirs_at, their_spreads, claims.margin),
                ours=_outcome(claim, left, right, column, ours_at, our_spreads, claims.margin),
            )
            for left in claim.rows
            for right in claim.to
            for column in claim.columns
        ]
        results.append(ClaimResult(claim, tuple(comparisons)))
    return WhatMoved(profile, drawn, claims.margin, our_spreads, seeded, tuple(results))


def _our_runs(
    runs: Mapping[int, Mapping[str, Sequence[Path]]], reference: Reference, profile: str
) -> dict[RowRef, Sequence[Run]]:
    """The metrics of each experiment, under the first row that it is printed in."""
    files: dict[RowRef, set[Path]] = {}
    for number, rows in runs.items():
        for row, paths in rows.items():
            reference.table(number).row(row)
            files.setdefault(reference.first(RowRef(table=number, row=row)), set()).update(paths)
    return {ref: read_runs(sorted(paths), profile=profile) for ref, paths in files.items()}


def _outcome(
    claim: Claim,
    left: str,
    right: str,
    column: Column,
    at: Callable[[RowRef, Column], Sample | None],
    spreads: Mapping[Column, Spread | None],
    margin: float,
) -> Outcome:
    a, b = at(claim.ref(left), column), at(claim.ref(right), column)
    if a is None or b is None:
        return Outcome(None, False, "missing")
    found = difference(a, b, spreads[column])
    holds = judge(Difference(found.value, 0.0), claim.relation, margin) == "agree"
    return Outcome(found, holds, judge(found, claim.relation, margin))


def _our_sample(
    reference: Reference, runs: Mapping[RowRef, Sequence[Run]], ref: RowRef, column: Column
) -> Sample | None:
    some = runs.get(reference.first(ref), ())
    mean = score(some, column)
    if mean is None:
        return None
    by_checkpoint = tuple((run.weights, found.value) for run in some if (found := run.at(column)) is not None)
    return Sample(mean.mean, mean.runs, reference.table(ref.table).row(ref.row).trained, by_checkpoint)


def _their_sample(reference: Reference, ref: RowRef, column: Column) -> Sample | None:
    table = reference.table(ref.table)
    value = table.value(ref.row, column)
    if value is None:
        return None
    row = table.row(ref.row)
    checkpoint = f"table {table.number}" if table.one_checkpoint else None if row.trained else "pretrained"
    return Sample(value, row.runs, row.trained, ((checkpoint, value),) if checkpoint else ())


def _seeded(runs: Mapping[RowRef, Sequence[Run]]) -> tuple[RowRef, ...]:
    """Rows with several runs; where another row has the very same ones, only the first."""
    found: dict[frozenset[str], RowRef] = {}
    for ref in sorted(runs, key=lambda ref: (ref.table, ref.row)):
        if len(runs[ref]) > 1:
            found.setdefault(frozenset(run.weights for run in runs[ref]), ref)
    return tuple(found.values())


def _our_spread(rows: Sequence[Sequence[Run]], column: Column) -> Spread | None:
    scores = [score(row, column) for row in rows]
    return pooled((s.std**2, s.runs) for s in scores if s is not None and s.std is not None)


def _their_spread(reference: Reference, column: Column) -> Spread | None:
    rows = [(table.std(row.id, column), row.runs) for table in reference.tables for row in table.rows]
    return pooled((std**2, runs) for std, runs in rows if std is not None)
