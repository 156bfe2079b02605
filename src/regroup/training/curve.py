"""Learning curves as CSV: what `dvc plots` draws."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from regroup.io import write_text

FIRST = ("step", "epoch", "learning_rate", "loss", "gradient_norm")


def write_curve(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Write one line a row, atomically; a run that trained nothing has a header alone."""
    names = [*FIRST, *sorted({name for row in rows for name in row} - set(FIRST))]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    write_text(path, buffer.getvalue())
