"""Rows as samples of scores: our runs and the thesis's cells, and what seeds do to them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from regroup.metrics import task_folder
from regroup.report.columns import Column
from regroup.report.comparison import Sample, Spread, Spreads, blocked, pooled
from regroup.report.measures import ClassIoU, Early, RunValues
from regroup.report.reference import Reference, RowRef
from regroup.report.scores import Run, read_runs

Measured = Early | ClassIoU | None
Key = tuple[Measured, Column, str]
"""What spreads are of: the measure, the column, and the class where classes are compared."""


@dataclass(frozen=True)
class VariantRuns:
    """The runs of one variant that fill a row: their seeds, none where nothing is trained."""

    variant: str
    seeds: tuple[int, ...] = ()
    there: bool = True

    def __str__(self) -> str:
        """With every seed: `ge-384 (seeds 0, 100, 123)`."""
        if not self.there:
            return f"{self.variant} (not there)"
        if not self.seeds:
            return self.variant
        return f"{self.variant} (seed{'s' * (len(self.seeds) > 1)} {', '.join(map(str, self.seeds))})"

    @property
    def brief(self) -> str:
        """With the number of seeds: `ge-384 ×3`."""
        return f"{self.variant} ×{len(self.seeds)}" if len(self.seeds) > 1 else str(replace(self, seeds=()))


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
        """What seeds do to a value, from rows with several; those that stand apart count if no other does."""
        key = measure, column, part
        if key not in self._spreads:
            apart: dict[bool, list[Sample]] = {False: [], True: []}
            for ref in self.seeded:
                if (found := self.sample(ref, key)) is not None and found.runs > 1:
                    apart[not self.reference.table(ref.table).row(ref.row).pooled].append(found)
            self._spreads[key] = spreads_of(apart[False] or apart[True])
        return self._spreads[key]

    def label(self, ref: RowRef, table: int) -> str:
        """A row in words, with its table where that is not `table`."""
        name = " · ".join(self.reference.table(ref.table).row(ref.row).labels)
        return name if ref.table == table else f"{name} (table {ref.table})"

    def filled_by(self, ref: RowRef) -> tuple[VariantRuns, ...]:
        """The runs of a row; where none is there yet, those that it waits for."""
        seeds: dict[str, list[int]] = {}
        for run in self.at(ref):
            seeds.setdefault(run.variant, []).extend([] if run.seed is None else [run.seed])
        if seeds:
            return tuple(VariantRuns(name, tuple(sorted(some))) for name, some in seeds.items())
        files = self.files.get(self.reference.first(ref), ())
        return tuple(VariantRuns(name, there=False) for name in sorted(set(map(_variant_of, files))))


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


def _variant_of(file: Path) -> str:
    """Whose metrics a file has: the folder or, of an analysis, the file below that of the task."""
    return file.relative_to(task_folder(file)).parts[0].removesuffix(".json")
