"""The tables of a study as data, with the values of a publication where there are any: its `tables.yaml`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from regroup.errors import RegroupError
from regroup.report.columns import Column, column_title, is_miou
from regroup.report.settings import TableFigure
from regroup.settings import Settings, parse, read_yaml

Printed = Annotated[float, Field(ge=0, le=1e9)]


class RowRef(Settings):
    """A row of a table, by the row's id."""

    table: int
    row: str

    def __str__(self) -> str:
        """For messages."""
        return f"table {self.table}, row {self.row}"


class SameAs(RowRef):
    """The row that prints the same experiment first, and the columns in which the two prints disagree."""

    differs: tuple[Column, ...] = ()

    @property
    def ref(self) -> RowRef:
        """The row alone."""
        return RowRef(table=self.table, row=self.row)


class ReferenceRow(Settings):
    """One printed row: what names it, and a value for each column of its table (none: nothing is printed).

    `analysis`: the file of a dissection that fills it, by default that of the row's id; `{chosen}` stands for
    the number of neighbours that the profile chose. `over`: the row that its gain is told over, where that is
    not the table's `baseline`. `pooled: false`: how far seeds move it tells nothing of other rows, as of a
    model that no longer works.
    """

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    labels: tuple[str, ...]
    values: tuple[Printed | None, ...] | None = None
    variance: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    runs: int = Field(default=1, ge=1)
    trained: bool = True
    same_as: SameAs | None = None
    analysis: str | None = Field(default=None, pattern=r"^[a-z0-9_{}]+$")
    over: str | None = None
    pooled: bool = True
    note: str | None = None


class ReferenceTable(Settings):
    """One printed table.

    `filled_by`: the runs that name its rows, or what the stage of that name writes. `baseline`: the row that
    gains are told over, where our data is drawn and no score is comparable with a printed one; `no_baseline`:
    why there is none. `figure`: how it is drawn too.
    """

    number: int = Field(ge=1)
    section: str | None = None
    title: str
    setting: str
    labels: tuple[str, ...] = Field(min_length=1)
    columns: tuple[Column, ...] = Field(min_length=1)
    titles: dict[Column, str] = Field(default_factory=dict)
    rows: tuple[ReferenceRow, ...] = Field(min_length=1)
    baseline: str | None = None
    no_baseline: str | None = None
    one_checkpoint: bool = False
    filled_by: Literal["variants", "sweep", "dissect"] = "variants"
    note: str | None = None
    figure: TableFigure | None = None

    @property
    def printed(self) -> bool:
        """Whether there is any value of a publication in it."""
        return any(value is not None for row in self.rows for value in row.values or ())

    @model_validator(mode="after")
    def _rows_fit_the_columns(self) -> Self:
        for row in self.rows:
            widths: dict[str, tuple[Sized, Sized]] = {"labels": (row.labels, self.labels)}
            if row.values is not None:
                widths["values"] = (row.values, self.columns)
            if row.variance is not None:
                widths["variance"] = (row.variance, self.columns)
            for key, (cells, columns) in widths.items():
                if len(cells) != len(columns):
                    raise ValueError(f"row {row.id}: {key}: {len(cells)} given, {len(columns)} columns")
            for column, value in zip(self.columns, row.values or (), strict=row.values is not None):
                if value is not None and value > 100 and is_miou(column):
                    raise ValueError(f"row {row.id}: {column}: {value} is no percentage")
            if (row.variance is None) != (row.runs == 1):
                raise ValueError(f"row {row.id}: `runs` above 1 and `variance` go together")
        if unknown := [column for column in self.titles if column not in self.columns]:
            raise ValueError(f"titles: no column {', '.join(unknown)}")
        twice = [row for row, count in Counter(row.id for row in self.rows).items() if count > 1]
        if twice:
            raise ValueError(f"row {', '.join(twice)} is listed twice")
        if self.figure is not None:
            self.figure.check(self.columns, [row.id for row in self.rows])
        return self

    @model_validator(mode="after")
    def _baseline_is_a_row(self) -> Self:
        if self.baseline is not None and self.no_baseline is not None:
            raise ValueError("no_baseline: says why there is no `baseline`, and there is one")
        if self.baseline is not None and self.baseline not in (rows := [row.id for row in self.rows]):
            raise ValueError(f"baseline: no row is called {self.baseline!r}; the rows are {', '.join(rows)}")
        return self

    @model_validator(mode="after")
    def _rows_are_over_others(self) -> Self:
        names = [row.id for row in self.rows]
        for row in self.rows:
            if row.over is None:
                continue
            if self.baseline is None:
                raise ValueError(
                    f"row {row.id}: over: is in place of the table's `baseline`, and there is none"
                )
            if row.over == row.id or row.over not in names:
                raise ValueError(
                    f"row {row.id}: over: no other row is called {row.over!r}; "
                    f"the rows are {', '.join(names)}"
                )
        return self

    def over(self, row: str) -> str | None:
        """The row that the gain of a row is over; None in the baseline itself, and where there is none."""
        return None if row == self.baseline else self.row(row).over or self.baseline

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

    def heading(self, column: Column) -> str:
        """Heading of a column."""
        return self.titles.get(column) or column_title(column)

    def value(self, row: str, column: Column) -> float | None:
        """The printed value; None where there is no such cell."""
        values = self.row(row).values
        if values is None or column not in self.columns:
            return None
        return values[self.columns.index(column)]

    def std(self, row: str, column: Column) -> float | None:
        """Standard deviation over the printed row's seeds; None for a single run."""
        variance = self.row(row).variance
        if variance is None or column not in self.columns:
            return None
        return math.sqrt(variance[self.columns.index(column)])


class Reference(Settings):
    """All tables, in the order of the publication; `main` is the one to show first.

    `about`: a sentence or two for the head of the report.
    """

    about: str | None = None
    main: int | None = None
    tables: tuple[ReferenceTable, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _references_resolve(self) -> Self:
        numbers = Counter(table.number for table in self.tables)
        if twice := [str(number) for number, count in numbers.items() if count > 1]:
            raise ValueError(f"table {', '.join(twice)} is listed twice")
        if self.main is not None and self.main not in numbers:
            raise ValueError(f"main: there is no table {self.main}")
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

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of all tables."""
        return tuple(table.number for table in self.tables)

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
        """Every row that prints the same experiment, itself included, in the order of the publication."""
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
        """Rows of some tables that nothing fills, in the order of the publication.

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
