"""Tables of a study with our scores, beside the printed ones where there are any, from metrics files alone.

Numbers have two decimals in every format: the thesis prints two, and further digits may differ between kinds
of machines. A delta is the difference of the two numbers as shown, so a table adds up by eye. The metrics
files have every digit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from regroup.drawing.grid import Grid, console, write_grid
from regroup.drawing.labelling import table_note
from regroup.metrics import task_folder
from regroup.report.columns import Column
from regroup.report.comparison import Spread
from regroup.report.notes import chance_notes, protocol_notes, seed_notes, units
from regroup.report.reference import Reference
from regroup.report.scores import Score, read_runs, rounded, score

MISSING = "missing"
"""What a cell shows when there is no run behind it."""

NOT_PRINTED = "n/a"
"""What a cell shows when the thesis has no such number, or a single run no spread."""


@dataclass(frozen=True)
class Cell:
    """One row in one column: the thesis's score and ours, each None where there is none."""

    thesis: Score | None
    ours: Score | None

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

    @property
    def heading(self) -> str:
        """Number, profile and title."""
        return f"Table {self.number} ({self.profile}): {self.title}"

    @property
    def complete(self) -> int:
        """How many rows have a score of ours in every column."""
        return sum(all(cell.ours is not None for cell in row.cells) for row in self.rows)


def build_table(
    number: int,
    rows: Mapping[str, Sequence[Path]],
    *,
    profile: str,
    drawn: bool,
    reference: Reference,
    spreads: Mapping[Column, Spread | None] | None = None,
) -> Table:
    """Put our scores beside the thesis's.

    Args:
        number: the table of `reference`.
        rows: row id -> metrics files; several files are seeds. A row that is not there, has no file, or whose
            files do not exist yet is shown as missing.
        profile: the profile that all files must be from; it stands in the title.
        drawn: whether its data is drawn; column headings and notes say so.
        reference: the tables of the study, with what is published.
        spreads: what seeds do to our scores, from all rows with several; a note tells it to readers of rows
            with one.

    Raises:
        RegroupError: a row that the table does not have, or a metrics file that is malformed or of another
            profile.
    """
    printed = reference.table(number)
    for name in rows:
        printed.row(name)
    runs = {row.id: read_runs(rows.get(row.id, ()), profile=profile) for row in printed.rows}
    built = []
    for row in printed.rows:
        cells = []
        for column in printed.columns:
            value = printed.value(row.id, column)
            std = printed.std(row.id, column)
            theirs = None if value is None else Score(value, std, row.runs)
            cells.append(Cell(theirs, score(runs[row.id], column)))
        built.append(Row(row.id, row.labels, tuple(cells)))
    unfilled = [_label(row.labels) for row in printed.rows if row.id not in rows]
    incomplete = {name: (len(runs[name]), _wanted(paths)) for name, paths in rows.items()}
    notes = [
        *([note] if (note := table_note(profile, drawn=drawn, printed=printed.printed)) else []),
        f"{units(printed, runs)}{f'; section {printed.section}' if printed.section else ''}. "
        f"{printed.setting}.",
        *([printed.note] if printed.note else []),
        *(f"{_label(row.labels)}: {row.note}." for row in printed.rows if row.note),
        *protocol_notes(printed, runs),
        *chance_notes(printed, runs),
        *(
            f"{_label(printed.row(name).labels)}: {have} of {want} runs."
            for name, (have, want) in incomplete.items()
            if 0 < have < want
        ),
        *([f"Nothing fills: {'; '.join(unfilled)}."] if unfilled else []),
        *seed_notes(printed, spreads or {}),
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
        notes=tuple(notes),
        printed=printed.printed,
    )


def write_table(table: Table, folder: Path, *, data: Path | None = None) -> list[Path]:
    """Write `table<NN>.csv`, `.json`, `.md` and `.tex` (a `tabular` with booktabs rules); return their paths.

    The same table gives the same bytes. `data` is a folder for all but the Markdown; by default the same.
    """
    return write_grid(_grid(table), folder / f"table{table.number:02}", csv=_csv_grid(table), data=data)


def format_console(table: Table, *, width: int = 100) -> str:
    """The table as aligned plain text of at most `width` columns, for the terminal."""
    columns = [
        (_console_column if table.printed else _own_column)(title, [row.cells[k] for row in table.rows])
        for k, title in enumerate(table.titles)
    ]
    head = [[_label(table.labels)], *(column[0] for column in columns)]
    body = [
        [[_label(row.labels)], *(column[number + 1] for column in columns)]
        for number, row in enumerate(table.rows)
    ]
    return console(table.heading, head, body, table.notes, width=width)


def _console_column(heading: str, cells: Sequence[Cell]) -> list[list[str]]:
    """Heading and cells of one column, each a list of lines, every line as wide as the others."""
    parts = [(_shown(cell.thesis), _shown(cell.ours) if cell.ours else "", _delta(cell)) for cell in cells]
    wide = [(6, 5, 5), *(tuple(map(len, part)) for part, cell in zip(parts, cells, strict=True) if cell.ours)]
    theirs, ours, delta = (max(widths) for widths in zip(*wide, strict=True))
    whole = theirs + ours + delta + 2
    lines = [[f"{heading:^{whole}}", f"{'thesis':>{theirs}} {'ours':>{ours}} {'delta':>{delta}}"]]
    for cell, part in zip(cells, parts, strict=True):
        if cell.ours is None:
            # the word is wider than a number, so it takes the place of the delta too
            lines.append([f"{part[0]:>{theirs}} {MISSING:>{ours + delta + 1}}"])
        else:
            lines.append([f"{part[0]:>{theirs}} {part[1]:>{ours}} {part[2]:>{delta}}"])
        if _spread(cell.thesis) or _spread(cell.ours):
            lines[-1].append(f"{_spread(cell.thesis):>{theirs}} {_spread(cell.ours):>{ours}}".ljust(whole))
    return lines


def _own_column(heading: str, cells: Sequence[Cell]) -> list[list[str]]:
    """As `_console_column`, where nothing is published."""
    return [[heading], *([_with_spread(cell.ours, MISSING)] for cell in cells)]


def _delta(cell: Cell) -> str:
    if cell.ours is None:
        return MISSING
    return NOT_PRINTED if cell.delta is None else f"{cell.delta:+}"


def _shown(score: Score | None) -> str:
    return NOT_PRINTED if score is None else str(rounded(score.mean))


def _spread(score: Score | None) -> str:
    return "" if score is None or score.std is None else f"±{rounded(score.std)}"


def _label(labels: Sequence[str]) -> str:
    return " · ".join(labels)


def _with_spread(score: Score | None, none: str) -> str:
    if score is None:
        return none
    return " ".join(text for text in (_shown(score), _spread(score).replace("±", "± ")) if text)


def _grid(table: Table) -> Grid:
    """For readers: a score and its spread share a cell."""
    ours = f"ours ({table.profile})" if table.drawn else "ours"
    rows = []
    for row in table.rows:
        cells = list(row.labels)
        for cell in row.cells:
            mine = _with_spread(cell.ours, MISSING)
            cells += [_with_spread(cell.thesis, NOT_PRINTED), mine, _delta(cell)] if table.printed else [mine]
        rows.append(tuple(cells))
    parts = ("thesis", ours, "delta")
    groups = (("", len(table.labels)), *((title, len(parts)) for title in table.titles))
    return Grid(
        heading=table.heading,
        # where all is ours, the profile in the heading says it for all
        columns=table.labels + (parts * len(table.columns) if table.printed else table.titles),
        groups=groups if table.printed else (),
        rows=tuple(rows),
        texts=len(table.labels),
        notes=table.notes,
    )


def _csv_grid(table: Table) -> list[list[str]]:
    """For programs: one value a field, always with the profile, spreads and numbers of runs."""
    parts = ("thesis", "thesis_std", "ours", "ours_std", "ours_runs", "delta")
    header = ["table", "profile", "row", *table.labels]
    header += [f"{column}_{part}" for column in table.columns for part in parts]
    lines = [header]
    for row in table.rows:
        line = [str(table.number), table.profile, row.id, *row.labels]
        for cell in row.cells:
            thesis_std = cell.thesis.std if cell.thesis else None
            line += [_shown(cell.thesis), NOT_PRINTED if thesis_std is None else str(rounded(thesis_std))]
            if cell.ours is None:
                line += [MISSING, MISSING, "0", MISSING]
                continue
            std = NOT_PRINTED if cell.ours.std is None else str(rounded(cell.ours.std))
            line += [_shown(cell.ours), std, str(cell.ours.runs), _delta(cell)]
        lines.append(line)
    return lines


def _wanted(paths: Sequence[Path]) -> int:
    """How many runs a row's files are of; those of one task lie beside each other."""
    places = Counter(map(task_folder, set(paths)))
    return max(places.values(), default=0)
