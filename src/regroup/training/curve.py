"""Learning curves as CSV: what `dvc plots` draws."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from regroup.io import write_text

FIRST = ("seed", "step", "epoch", "learning_rate", "loss", "gradient_norm")


def write_curve(path: Path, curves: Mapping[int, Sequence[dict[str, float]]]) -> None:
    """Write one line a row of each seed's curve, atomically; without any run there is a header alone."""
    rows = [(seed, row) for seed, curve in curves.items() for row in curve]
    names = [*FIRST, *sorted({name for _, row in rows for name in row} - set(FIRST))]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for seed, row in rows:
        writer.writerow({"seed": seed, **{name: f"{value:.6g}" for name, value in row.items()}})
    write_text(path, buffer.getvalue())
