"""What `make repro` says when it is done: the result, where the rest is, and how to look further."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from regroup.report.labelling import is_drawn
from regroup.report.tables import Table, format_console


def format_summary(
    shown: Sequence[Table], *, tables: Path, figures: Sequence[Path], page: Path | None = None
) -> str:
    """The closing words of a run, of at most 100 columns unless a path is longer.

    Args:
        shown: the tables to show, at least one.
        tables: the folder where all tables were written.
        figures: pictures worth opening.
        page: the report's page, where there is one.
    """
    places = [
        *([("Report", str(page))] if page else []),
        ("Tables", f"{tables}{os.sep}tableNN.md, .csv, .tex"),
        *(("Figure", str(figure)) for figure in figures),
        ("Numbers", "dvc metrics show"),
        ("Runs", "make ui"),
    ]
    lines = [
        *(format_console(table) for table in shown),
        *(f"{what + ':':<9}{where}" for what, where in places),
    ]
    if is_drawn(shown[0].profile):
        lines.append('To run the study on real data: README, "The real study"')
    return "\n".join(lines) + "\n"
