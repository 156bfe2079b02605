"""Tables of a study with our scores, beside the printed ones where there are any, from metrics files alone.

On real data a table has the difference of our score and the printed one. Scores of drawn images are not on
that scale: there it has what each row gains over the table's baseline, the printed gain beside ours with
its interval.

Numbers have two decimals in every format: the thesis prints two, and further digits may differ between kinds
of machines. A delta is the difference of the two numbers as shown, so a table adds up by eye. The metrics
files have every digit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from regroup.drawing.labelling import table_note
from regroup.metrics import task_folder
from regroup.report.columns import Column
from regroup.report.comparison import UNKNOWN, Difference, Spreads, difference
from regroup.report.notes import chance_notes, gain_notes, protocol_notes, seed_notes, units
from regroup.report.reference import Reference, ReferenceTable
from regroup.report.samples import sample_of
from regroup.report.scores import Run, Score, read_runs, rounded, score


@dataclass(frozen=True)
class Cell:
    """One row in one column: the thesis's score and ours, each None where there is none.

    `thesis_gain` and `gain` are over the row that this one is compared with, or the table's baseline; None in
    the baseline itself, and where the table has none or a score is missing.
    """

    thesis: Score | None
    ours: Score | None
    thesis_gain: Decimal | None = None
    gain: Difference | None = None

    @property
    def delta(self) -> Decimal | None:
        """Ours less the thesis's, in percentage points, of the rounded numbers."""
        if self.thesis is None or self.ours is None:
            return None
        return rounded(self.ours.mean) - rounded(self.thesis.mean)


@dataclass(frozen=True)
class Row:
    """One row: its id, the printed labels, a cell for each column of the table."""

    id: str
    labels: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """One built table."""

    number: int
    title: str
    profile: str
    drawn: bool
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    titles: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    printed: bool = True
    """Whether a publication has values for it; else ours stand alone."""
    baseline: str | None = None
    """The row that gains are over."""

    @property
    def heading(self) -> str:
        """Number, profile and title."""
        return f"Table {self.number} ({self.profile}): {self.title}"

    @property
    def complete(self) -> int:
        """How many rows have a score of ours in every column."""
        return sum(all(cell.ours is not None for cell in row.cells) for row in self.rows)

    @property
    def compares(self) -> bool:
        """Whether our scores are on the printed ones' scale, so that their difference means something."""
        return self.printed and not self.drawn


def build_table(
    number: int,
    rows: Mapping[str, Sequence[Path]],
    *,
    profile: str,
    drawn: bool,
    reference: Reference,
    spreads: Mapping[Column, Spreads] | None = None,
) -> Table:
    """Put our scores beside the thesis's.

    Args:
        number: the table of `reference`.
        rows: row id -> metrics files; several files are seeds. A row that is not there, has no file, or whose
            files do not exist yet is shown as missing.
        profile: the profile that all files must be from; it stands in the title.
        drawn: whether its data is drawn; column headings and notes say so.
        reference: the tables of the study, with what is published.
        spreads: what seeds do to our scores, from all rows with several: for intervals, and for a note to
            readers of rows with one run.

    Raises:
        RegroupError: a row that the table does not have, or a metrics file that is malformed or of another
            profile.
    """
    printed = reference.table(number)
    for name in rows:
        printed.row(name)
    runs = {row.id: read_runs(rows.get(row.id, ()), profile=profile) for row in printed.rows}
    known = spreads or {}
    built = [
        Row(
            row.id,
            row.labels,
            tuple(_cell(printed, row.id, column, runs, known) for column in printed.columns),
        )
        for row in printed.rows
    ]
    return Table(
        number=number,
        title=printed.title,
        profile=profile,
        drawn=drawn,
        labels=printed.labels,
        columns=printed.columns,
        titles=tuple(map(printed.heading, printed.columns)),
        rows=tuple(built),
        notes=(
            *_notes(printed, rows, runs, built, profile=profile, drawn=drawn),
            *seed_notes(printed, known),
        ),
        printed=printed.printed,
        baseline=printed.baseline,
    )


def _notes(
    printed: ReferenceTable,
    files: Mapping[str, Sequence[Path]],
    runs: Mapping[str, Sequence[Run]],
    rows: Sequence[Row],
    *,
    profile: str,
    drawn: bool,
) -> Iterator[str]:
    """What stands under a table: what its values are, and which runs are not there."""
    if note := table_note(profile, drawn=drawn, printed=printed.printed):
        yield note
    section = f"; section {printed.section}" if printed.section else ""
    yield f"{units(printed, runs)}{section}. {printed.setting}."
    if drawn or not printed.printed:
        methods = {cell.gain.method for row in rows for cell in row.cells if cell.gain is not None}
        yield from gain_notes(printed, methods, drawn=drawn)
    if printed.note:
        yield printed.note
    yield from (f"{label(row.labels)}: {row.note}." for row in printed.rows if row.note)
    yield from protocol_notes(printed, runs)
    yield from chance_notes(printed, runs)
    for name, paths in files.items():
        if 0 < (have := len(runs[name])) < (want := _wanted(paths)):
            yield f"{label(printed.row(name).labels)}: {have} of {want} runs."
    if unfilled := [label(row.labels) for row in printed.rows if row.id not in files]:
        yield f"Nothing fills: {'; '.join(unfilled)}."


def _cell(
    printed: ReferenceTable,
    row: str,
    column: Column,
    runs: Mapping[str, Sequence[Run]],
    spreads: Mapping[Column, Spreads],
) -> Cell:
    value, std = printed.value(row, column), printed.std(row, column)
    theirs = None if value is None else Score(value, std, printed.row(row).runs)
    ours = score(runs[row], column)
    if (over := printed.over(row)) is None:
        return Cell(theirs, ours)
    base = printed.value(over, column)
    thesis_gain = None if value is None or base is None else rounded(value) - rounded(base)
    samples = [
        sample_of(
            [(run, found.value) for run in runs[name] if (found := run.at(column)) is not None],
            trained=printed.row(name).trained,
        )
        for name in (row, over)
    ]
    gain = None
    if samples[0] is not None and samples[1] is not None:
        gain = difference(samples[0], samples[1], spreads.get(column, UNKNOWN))
    return Cell(theirs, ours, thesis_gain, gain)


def label(labels: Sequence[str]) -> str:
    """A row's labels as one."""
    return " · ".join(labels)


def _wanted(paths: Sequence[Path]) -> int:
    """How many runs a row's files are of; those of one task lie beside each other."""
    places = Counter(map(task_folder, set(paths)))
    return max(places.values(), default=0)
