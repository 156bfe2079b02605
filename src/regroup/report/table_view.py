"""Tables as people and programs read them: Markdown, LaTeX, CSV, JSON and the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from pathlib import Path

from regroup.drawing.grid import Grid, console, write_grid
from regroup.report.comparison import Difference
from regroup.report.scores import Score, rounded
from regroup.report.tables import Cell, Table, label

MISSING = "missing"
"""What a cell shows when there is no run behind it."""

NOT_PRINTED = "n/a"
"""What a cell shows when the thesis has no such number, or a single run no spread."""

BASELINE = "baseline"
"""What the row that gains are over shows in their place."""


def write_table(table: Table, folder: Path, *, data: Path | None = None) -> list[Path]:
    """Write `table<NN>.csv`, `.json`, `.md` and `.tex` (a `tabular` with booktabs rules); return their paths.

    The same table gives the same bytes. `data` is a folder for all but the Markdown; by default the same.
    """
    return write_grid(_grid(table), folder / f"table{table.number:02}", csv=_csv_grid(table), data=data)


def format_console(table: Table, *, width: int = 100) -> str:
    """The table as aligned plain text of at most `width` columns, for the terminal.

    Where gains are told, each row has a second line with them.
    """
    columns = [
        _console_column(table, title, [row.cells[k] for row in table.rows], [row.id for row in table.rows])
        for k, title in enumerate(table.titles)
    ]
    head = [[label(table.labels)], *(column[0] for column in columns)]
    body: list[list[Sequence[str]]] = []
    for number, row in enumerate(table.rows):
        body.append([[label(row.labels)], *(column[1][number] for column in columns)])
        if _gains(table) and row.id != table.baseline:
            body.append([["  gain"], *([column[2][number]] for column in columns)])
    return console(table.heading, head, body, table.notes, width=width)


def _gains(table: Table) -> bool:
    return table.baseline is not None and not table.compares


Column = tuple[list[str], list[list[str]], list[str]]
"""Heading, cells and gains of a column, each line as wide as the others."""


def _console_column(table: Table, heading: str, cells: Sequence[Cell], rows: Sequence[str]) -> Column:
    if table.compares:
        return _with_delta(heading, cells)
    ours = [_with_spread(cell.ours, MISSING) for cell in cells]
    gains = [_gain(cell, name, table) for cell, name in zip(cells, rows, strict=True)]
    if not table.printed:
        return [heading], [[one] for one in ours], gains
    theirs = [_shown(cell.thesis) for cell in cells]
    their_gains = [_thesis_gain(cell, name, table) for cell, name in zip(cells, rows, strict=True)]
    told = [name != table.baseline and _gains(table) for name in rows]  # else the gains are not printed
    left = max(6, *map(len, theirs), *map(len, compress(their_gains, told)))
    right = max(4, *map(len, ours), *map(len, compress(gains, told)))

    def both(a: str, b: str) -> str:
        return f"{a:>{left}} {b:>{right}}"

    lines = [[both(a, b)] for a, b in zip(theirs, ours, strict=True)]
    for line, cell in zip(lines, cells, strict=True):
        if spread := _spread(cell.thesis):
            line.append(both(spread, ""))
    head = [f"{heading:^{left + right + 1}}", both("thesis", "ours")]
    return head, lines, [both(a, b) for a, b in zip(their_gains, gains, strict=True)]


def _with_delta(heading: str, cells: Sequence[Cell]) -> Column:
    parts = [(_shown(cell.thesis), _shown(cell.ours) if cell.ours else "", _delta(cell)) for cell in cells]
    wide = [(6, 5, 5), *(tuple(map(len, part)) for part, cell in zip(parts, cells, strict=True) if cell.ours)]
    theirs, ours, delta = (max(widths) for widths in zip(*wide, strict=True))
    whole = theirs + ours + delta + 2
    lines = []
    for cell, part in zip(cells, parts, strict=True):
        if cell.ours is None:
            # the word is wider than a number, so it takes the place of the delta too
            lines.append([f"{part[0]:>{theirs}} {MISSING:>{ours + delta + 1}}"])
        else:
            lines.append([f"{part[0]:>{theirs}} {part[1]:>{ours}} {part[2]:>{delta}}"])
        if _spread(cell.thesis) or _spread(cell.ours):
            lines[-1].append(f"{_spread(cell.thesis):>{theirs}} {_spread(cell.ours):>{ours}}".ljust(whole))
    head = [f"{heading:^{whole}}", f"{'thesis':>{theirs}} {'ours':>{ours}} {'delta':>{delta}}"]
    return head, lines, []


def _delta(cell: Cell) -> str:
    if cell.ours is None:
        return MISSING
    return NOT_PRINTED if cell.delta is None else f"{cell.delta:+}"


def _thesis_gain(cell: Cell, row: str, table: Table) -> str:
    if row == table.baseline:
        return BASELINE
    return NOT_PRINTED if cell.thesis_gain is None else f"{cell.thesis_gain:+}"


def _gain(cell: Cell, row: str, table: Table) -> str:
    if row == table.baseline:
        return BASELINE
    return MISSING if cell.gain is None else gain_text(cell.gain)


def gain_text(found: Difference) -> str:
    """A difference and half the width of its interval: `+3.06 ± 0.44`; alone where it has none."""
    half = found.half
    value = f"{rounded(found.value):+}"
    return value if half is None or (not half and found.method == "same") else f"{value} ± {rounded(half)}"


def _shown(score: Score | None) -> str:
    return NOT_PRINTED if score is None else str(rounded(score.mean))


def _spread(score: Score | None) -> str:
    return "" if score is None or score.std is None else f"±{rounded(score.std)}"


def _with_spread(score: Score | None, none: str) -> str:
    """A score and its standard deviation over seeds, where it has one."""
    if score is None:
        return none
    return _shown(score) + _spread(score).replace("±", " ± ")


def _grid(table: Table) -> Grid:
    """For readers: a score and its spread share a cell, a gain and its interval another.

    Gains of all columns stand before the scores, where both are told: they are what may be compared.
    """
    ours = f"ours ({table.profile})" if table.drawn else "ours"
    parts = [*(["thesis"] if table.printed else []), ours, *(["delta"] if table.compares else [])]
    gains = [part for part in parts if _gains(table)]
    rows = []
    for row in table.rows:
        told = {
            "thesis": [_thesis_gain(cell, row.id, table) for cell in row.cells],
            ours: [_gain(cell, row.id, table) for cell in row.cells],
        }
        shown = {
            "thesis": [_with_spread(cell.thesis, NOT_PRINTED) for cell in row.cells],
            ours: [_with_spread(cell.ours, MISSING) for cell in row.cells],
            "delta": [_delta(cell) for cell in row.cells],
        }
        cells = [told[part][k] for k in range(len(row.cells)) for part in gains]
        cells += [shown[part][k] for k in range(len(row.cells)) for part in parts]
        rows.append((*row.labels, *cells))
    # where all is ours, the profile in the heading says it for all
    alone = len(parts) == 1 and not gains
    groups = [("", len(table.labels))]
    groups += [(f"{title} gain", len(gains)) for title in table.titles if gains]
    groups += [(title, len(parts)) for title in table.titles]
    return Grid(
        heading=table.heading,
        columns=(
            *table.labels,
            *(table.titles if alone else (gains * len(table.titles) + parts * len(table.titles))),
        ),
        groups=() if alone else tuple(groups),
        rows=tuple(rows),
        texts=len(table.labels),
        notes=table.notes,
    )


def _csv_grid(table: Table) -> list[list[str]]:
    """For programs: one value a field, always with the profile, spreads and numbers of runs."""
    parts = ["thesis", "thesis_std", "ours", "ours_std", "ours_runs"]
    parts += ["delta"] if not table.drawn else []
    gains = ("thesis_gain", "gain", "gain_half_width", "gain_seeds", "gain_method")
    header = ["table", "profile", "row", *table.labels]
    every = [*parts, *(gains if table.baseline is not None else ())]
    header += [f"{column}_{part}" for column in table.columns for part in every]
    lines = [header]
    for row in table.rows:
        line = [str(table.number), table.profile, row.id, *row.labels]
        for cell in row.cells:
            thesis_std = cell.thesis.std if cell.thesis else None
            line += [_shown(cell.thesis), NOT_PRINTED if thesis_std is None else str(rounded(thesis_std))]
            if cell.ours is None:
                line += [MISSING, MISSING, "0"]
            else:
                std = NOT_PRINTED if cell.ours.std is None else str(rounded(cell.ours.std))
                line += [_shown(cell.ours), std, str(cell.ours.runs)]
            line += [_delta(cell)] if not table.drawn else []
            line += _csv_gain(cell, row.id, table) if table.baseline is not None else []
        lines.append(line)
    return lines


def _csv_gain(cell: Cell, row: str, table: Table) -> list[str]:
    theirs, found = _thesis_gain(cell, row, table), cell.gain
    if row == table.baseline:
        return [BASELINE] * 5
    if found is None:
        return [theirs, *[MISSING] * 4]
    half = NOT_PRINTED if found.half is None else str(rounded(found.half))
    return [theirs, f"{rounded(found.value):+}", half, str(found.seeds), found.method]
