"""The thesis's tables 1 to 14 as data: `thesis.yaml`, typed and checked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from regroup.errors import RegroupError
from regroup.settings import Settings, parse, read_yaml

Dataset = Literal["coco", "voc", "context", "ade"]

DATASET_TITLES: Mapping[Dataset, str] = {
    "coco": "COCO",
    "voc": "PVOC",
    "context": "PContext",
    "ade": "ADE20K",
}
"""Headings of the value columns, as the thesis prints them."""

Percent = Annotated[float, Field(ge=0, le=100)]


class RowRef(Settings):
    """A row of a table, by the row's id."""

    table: int
    row: str

    def __str__(self) -> str:
        """For messages."""
        return f"table {self.table}, row {self.row}"


class SameAs(RowRef):
    """The row that prints the same experiment first, and the datasets on which the two prints disagree."""

    differs: tuple[Dataset, ...] = ()

    @property
    def ref(self) -> RowRef:
        """The row alone."""
        return RowRef(table=self.table, row=self.row)


class ReferenceRow(Settings):
    """One printed row: what names it, and mIoU in percent for each dataset of its table."""

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    labels: tuple[str, ...]
    values: tuple[Percent | None, ...]
    variance: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    runs: int = Field(default=1, ge=1)
    trained: bool = True
    same_as: SameAs | None = None
    note: str | None = None


class ReferenceTable(Settings):
    """One printed table."""

    number: int = Field(ge=1)
    section: str
    title: str
    setting: str
    labels: tuple[str, ...] = Field(min_length=1)
    datasets: tuple[Dataset, ...] = Field(min_length=1)
    rows: tuple[ReferenceRow, ...] = Field(min_length=1)
    one_checkpoint: bool = False
    note: str | None = None

    @model_validator(mode="after")
    def _rows_fit_the_columns(self) -> Self:
        for row in self.rows:
            widths = {"labels": (row.labels, self.labels), "values": (row.values, self.datasets)}
            if row.variance is not None:
                widths["variance"] = (row.variance, self.datasets)
            for key, (cells, columns) in widths.items():
                if len(cells) != len(columns):
                    raise ValueError(f"row {row.id}: {key}: {len(cells)} given, {len(columns)} columns")
            if (row.variance is None) != (row.runs == 1):
                raise ValueError(f"row {row.id}: `runs` above 1 and `variance` go together")
        twice = [row for row, count in Counter(row.id for row in self.rows).items() if count > 1]
        if twice:
            raise ValueError(f"row {', '.join(twice)} is listed twice")
        return self

    def row(self, row: str) -> ReferenceRow:
        """The row with this id.

        Raises:
            RegroupError: there is none; the message lists those there are.
        """
        for candidate in self.rows:
            if candidate.id == row:
                return candidate
        known = ", ".join(candidate.id for candidate in self.rows)
        raise RegroupError(f"table {self.number}: no row is called {row!r}; its rows are {known}")

    def value(self, row: str, dataset: Dataset) -> float | None:
        """Printed mIoU in percent; None where the thesis has no such cell."""
        if dataset not in self.datasets:
            return None
        return self.row(row).values[self.datasets.index(dataset)]

    def std(self, row: str, dataset: Dataset) -> float | None:
        """Standard deviation over the printed row's seeds, in percent; None for a single run."""
        variance = self.row(row).variance
        if variance is None or dataset not in self.datasets:
            return None
        return math.sqrt(variance[self.datasets.index(dataset)])


class Reference(Settings):
    """All tables, in the order of the thesis."""

    tables: tuple[ReferenceTable, ...]

    @model_validator(mode="after")
    def _references_resolve(self) -> Self:
        numbers = Counter(table.number for table in self.tables)
        if twice := [str(number) for number, count in numbers.items() if count > 1]:
            raise ValueError(f"table {', '.join(twice)} is listed twice")
        rows = {(table.number, row.id): row for table in self.tables for row in table.rows}
        for (number, name), row in rows.items():
            if row.same_as is None:
                continue
            first = rows.get((row.same_as.table, row.same_as.row))
            if first is None:
                raise ValueError(f"table {number}, row {name}: same_as: there is no {row.same_as.ref}")
            if first.same_as is not None:
                raise ValueError(f"table {number}, row {name}: same_as: point at {first.same_as.ref} itself")
        return self

    def table(self, number: int) -> ReferenceTable:
        """The table with this number.

        Raises:
            RegroupError: there is none.
        """
        for table in self.tables:
            if table.number == number:
                return table
        known = ", ".join(str(table.number) for table in self.tables)
        raise RegroupError(f"there is no table {number}; there are {known}")

    def first(self, ref: RowRef) -> RowRef:
        """Where the experiment behind a row is printed first: the same answer for all rows that share it."""
        same = self.table(ref.table).row(ref.row).same_as
        return RowRef(table=ref.table, row=ref.row) if same is None else same.ref

    def shared(self, ref: RowRef) -> tuple[RowRef, ...]:
        """Every row that prints the same experiment, itself included, in the order of the thesis."""
        first = self.first(ref)
        every = (RowRef(table=table.number, row=row.id) for table in self.tables for row in table.rows)
        return tuple(other for other in every if self.first(other) == first)

    def fill(self, runs: Iterable[tuple[int, str, Path]]) -> dict[int, dict[str, list[Path]]]:
        """Put runs into every row that prints their experiment: table -> row id -> files.

        Args:
            runs: table, row id and metrics file of each run; one row of an experiment is enough.

        Raises:
            RegroupError: an unknown table or row.
        """
        filled: dict[int, dict[str, list[Path]]] = {table.number: {} for table in self.tables}
        for table, row, path in runs:
            for ref in self.shared(RowRef(table=table, row=row)):
                files = filled[ref.table].setdefault(ref.row, [])
                if path not in files:
                    files.append(path)
        return filled

    def unfilled(self, filled: Mapping[int, Mapping[str, object]], numbers: Iterable[int]) -> list[RowRef]:
        """Rows of some tables that nothing fills, in the order of the thesis.

        Args:
            filled: table -> row id -> what fills it, as `fill` returns it.
            numbers: of the tables to look at.

        Raises:
            RegroupError: an unknown table.
        """
        return [
            RowRef(table=number, row=row.id)
            for number in numbers
            for row in self.table(number).rows
            if row.id not in filled.get(number, {})
        ]


def load_reference(path: Path) -> Reference:
    """Read and check a reference file.

    Raises:
        RegroupError: the message names the file, the key, and what is wrong.
    """
    return parse(Reference, read_yaml(path), path)


@cache
def thesis() -> Reference:
    """The thesis's own tables, 1 to 14."""
    return load_reference(Path(__file__).with_name("thesis.yaml"))
