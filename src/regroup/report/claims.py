"""What the thesis concludes from its tables, checked on its own numbers and on ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from regroup.errors import RegroupError
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
from regroup.report.reference import DATASET_TITLES, Dataset, Reference, RowRef, thesis
from regroup.report.scores import Metrics, read_runs, score
from regroup.settings import Settings, parse, read_yaml


class Claim(Settings):
    """One conclusion: each of `rows` against each of `to`, on each of `datasets`."""

    id: str
    table: int
    section: str
    text: str
    rows: tuple[str, ...] = Field(min_length=1)
    to: tuple[str, ...] = Field(min_length=1)
    datasets: tuple[Dataset, ...] = Field(min_length=1)
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


def load_claims(path: Path | None = None, *, reference: Reference | None = None) -> Claims:
    """Read and check the claims; by default the thesis's.

    Raises:
        RegroupError: an unknown key, table, row, or a dataset that a row's table does not have.
    """
    path = path or Path(__file__).with_name("claims.yaml")
    claims = parse(Claims, read_yaml(path), path)
    for claim in claims.claims:
        for name in (*claim.rows, *claim.to):
            try:
                ref = claim.ref(name)
                table = (reference or thesis()).table(ref.table)
                table.row(ref.row)
            except (RegroupError, ValueError) as error:
                raise RegroupError(f"{path}: claim {claim.id}: {name}: {error}") from None
            if unknown := set(claim.datasets) - set(table.datasets):
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
    """One pair of rows on one dataset, in the thesis's numbers and in ours."""

    left: RowRef
    right: RowRef
    dataset: Dataset
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
    """Every claim of the thesis, checked.

    `seeded` are our rows with several seeds, whose spread all others are judged by.
    """

    profile: str
    drawn: bool
    margin: float
    spreads: Mapping[Dataset, Spread | None]
    seeded: tuple[RowRef, ...]
    results: tuple[ClaimResult, ...]


def check_claims(
    runs: Mapping[int, Mapping[str, Sequence[Path]]],
    *,
    profile: str,
    drawn: bool,
    claims: Claims | None = None,
    reference: Reference | None = None,
) -> WhatMoved:
    """Check every claim on the thesis's numbers and on ours.

    Args:
        runs: table -> row id -> metrics files (several: seeds). An experiment that is printed in several
            tables need only be given for one of them.
        profile: the profile that all files must be from.
        drawn: whether its data is drawn.
        claims: what to check; the thesis's claims by default.
        reference: the printed values; the thesis's by default.

    Raises:
        RegroupError: an unknown table or row, or a metrics file that is malformed or of another profile.
    """
    reference = reference or thesis()
    claims = claims or load_claims(reference=reference)
    ours = _our_runs(runs, reference, profile)
    seeded = _seeded(ours)
    our_spreads = {dataset: _our_spread([ours[ref] for ref in seeded], dataset) for dataset in DATASET_TITLES}
    their_spreads = {dataset: _their_spread(reference, dataset) for dataset in DATASET_TITLES}

    def ours_at(ref: RowRef, dataset: Dataset) -> Sample | None:
        return _our_sample(reference, ours, ref, dataset)

    def theirs_at(ref: RowRef, dataset: Dataset) -> Sample | None:
        return _their_sample(reference, ref, dataset)

    results = []
    for claim in claims.claims:
        comparisons = [
            Comparison(
                left=claim.ref(left),
                right=claim.ref(right),
                dataset=dataset,
                thesis=_outcome(claim, left, right, dataset, theirs_at, their_spreads, claims.margin),
                ours=_outcome(claim, left, right, dataset, ours_at, our_spreads, claims.margin),
            )
            for left in claim.rows
            for right in claim.to
            for dataset in claim.datasets
        ]
        results.append(ClaimResult(claim, tuple(comparisons)))
    return WhatMoved(profile, drawn, claims.margin, our_spreads, seeded, tuple(results))


def _our_runs(
    runs: Mapping[int, Mapping[str, Sequence[Path]]], reference: Reference, profile: str
) -> dict[RowRef, Sequence[Metrics]]:
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
    dataset: Dataset,
    at: Callable[[RowRef, Dataset], Sample | None],
    spreads: Mapping[Dataset, Spread | None],
    margin: float,
) -> Outcome:
    a, b = at(claim.ref(left), dataset), at(claim.ref(right), dataset)
    if a is None or b is None:
        return Outcome(None, False, "missing")
    found = difference(a, b, spreads[dataset])
    holds = judge(Difference(found.value, 0.0), claim.relation, margin) == "agree"
    return Outcome(found, holds, judge(found, claim.relation, margin))


def _our_sample(
    reference: Reference, runs: Mapping[RowRef, Sequence[Metrics]], ref: RowRef, dataset: Dataset
) -> Sample | None:
    scored = [run for run in runs.get(reference.first(ref), ()) if dataset in run.datasets]
    mean = score(scored, dataset)
    if mean is None:
        return None
    by_checkpoint = tuple((run.weights, run.datasets[dataset].miou) for run in scored)
    return Sample(mean.mean, mean.runs, reference.table(ref.table).row(ref.row).trained, by_checkpoint)


def _their_sample(reference: Reference, ref: RowRef, dataset: Dataset) -> Sample | None:
    table = reference.table(ref.table)
    value = table.value(ref.row, dataset)
    if value is None:
        return None
    row = table.row(ref.row)
    checkpoint = f"table {table.number}" if table.one_checkpoint else None if row.trained else "pretrained"
    return Sample(value, row.runs, row.trained, ((checkpoint, value),) if checkpoint else ())


def _seeded(runs: Mapping[RowRef, Sequence[Metrics]]) -> tuple[RowRef, ...]:
    """Rows with several runs; where another row has the very same ones, only the first."""
    found: dict[frozenset[str], RowRef] = {}
    for ref in sorted(runs, key=lambda ref: (ref.table, ref.row)):
        if len(runs[ref]) > 1:
            found.setdefault(frozenset(run.weights for run in runs[ref]), ref)
    return tuple(found.values())


def _our_spread(rows: Sequence[Sequence[Metrics]], dataset: Dataset) -> Spread | None:
    scores = [score(row, dataset) for row in rows]
    return pooled((s.std**2, s.runs) for s in scores if s is not None and s.std is not None)


def _their_spread(reference: Reference, dataset: Dataset) -> Spread | None:
    rows = [(table.std(row.id, dataset), row.runs) for table in reference.tables for row in table.rows]
    return pooled((std**2, runs) for std, runs in rows if std is not None)
