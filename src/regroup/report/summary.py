"""What `make repro` says when it is done: the result, where the rest is, and how to look further."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from regroup.report.comparison import Verdict
from regroup.report.table_view import format_console
from regroup.report.tables import Table


def format_summary(
    shown: Sequence[Table],
    *,
    every: Sequence[Table] = (),
    verdicts: Mapping[Verdict, int] | None = None,
    tables: Path,
    figures: Sequence[Path],
    page: Path | None = None,
) -> str:
    """The closing words of a run, of at most 100 columns unless a path is longer.

    Args:
        shown: the tables to show, at least one.
        every: all tables of the profile, of which the number of complete rows is told.
        verdicts: how many of the thesis's claims our numbers bear out, refute, and so on.
        tables: the folder where all tables were written.
        figures: pictures worth opening.
        page: the report's page, where there is one.
    """
    places = [
        *([("Report", str(page))] if page else []),
        ("Tables", f"{tables}{os.sep}tableNN.md{_rows(every)}"),
        *([("Claims", _claims(verdicts, tables))] if verdicts else []),
        *_figures(figures),
        ("Numbers", "dvc metrics show"),
        ("Runs", "make ui"),
    ]
    lines = [
        *(format_console(table) for table in shown),
        *(f"{what + ':':<9}{where}" for what, where in places),
    ]
    if shown[0].drawn:
        lines.append('To run the study on real data: README, "The real study"')
    return "\n".join(lines) + "\n"


def _rows(every: Sequence[Table]) -> str:
    if not every:
        return ""
    # a mark in place of the space, so that no line ends inside a pair
    parts = [f"{table.number}:\0{table.complete}/{len(table.rows)}" for table in every]
    if all(table.complete == len(table.rows) for table in every):
        return f" ({len(every)} tables, every row)"
    lines = textwrap.wrap(f"rows complete in table {', '.join(parts)}", 90)
    return "".join(f"\n{'':<9}{line}" for line in lines).replace("\0", " ")


def _claims(verdicts: Mapping[Verdict, int], tables: Path) -> str:
    counts = ", ".join(f"{count} {word}" for word, count in verdicts.items() if count)
    return f"{counts} ({tables}{os.sep}what_moved.md)"


def _figures(figures: Sequence[Path]) -> list[tuple[str, str]]:
    """One figure by its name, several by their folders."""
    if len(figures) < 2:
        return [("Figure", str(figure)) for figure in figures]
    folders = sorted({figure.parent for figure in figures})
    return [
        ("Figures", f"{folder} ({sum(figure.parent == folder for figure in figures)})") for folder in folders
    ]
