"""The sweep's scores as metrics files, one a row of Table 12."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from regroup.io import sha256
from regroup.metrics import MIOU, DatasetScores, write_rows
from regroup.model.weights import find_weights
from regroup.segmentation.settings import SweepGrid
from regroup.segmentation.sweep import SweepRow

RESOLUTIONS = ("448", "512")
THRESHOLDS = ("90", "95", "98", "99")
"""Of Table 12, as its row ids spell them."""


def table_rows(rows: Sequence[SweepRow], grid: SweepGrid) -> Iterator[tuple[str, list[SweepRow]]]:
    """Row ids of Table 12 with the sweep's rows that fill them, one a dataset.

    By position: the first resolution of the grid stands where the thesis has 448 pixels, the second where it
    has 512, the first threshold where it has 0.9, and so on, since thresholds and sizes that suit one model
    say little of another. Of several windows, strides or top-k the first counts; further values fill no row.
    """
    sides = grid.short_side or tuple(dict.fromkeys(row.short_side for row in rows))
    places = product(zip(RESOLUTIONS, sides, strict=False), zip(THRESHOLDS, grid.threshold, strict=False))
    for (resolution, side), (percent, threshold) in places:
        found: dict[str, SweepRow] = {}
        for row in rows:
            if row.short_side == side and row.threshold in (threshold, None):
                found.setdefault(row.dataset, row)
        if found:
            yield f"res{resolution}_bg{percent}", list(found.values())


def write_table(
    rows: Sequence[SweepRow],
    grid: SweepGrid,
    folder: Path,
    *,
    variant: str,
    profile: str,
    checkpoint: Path,
) -> list[Path]:
    """Write `<row id>.json` in the form of a metrics file for each row of Table 12; return the paths."""
    filled = {name: {row.dataset: _scores(row) for row in some} for name, some in table_rows(rows, grid)}
    weights = sha256(find_weights(checkpoint))
    return write_rows(filled, folder, variant=variant, profile=profile, checkpoint=weights)


def _scores(row: SweepRow) -> DatasetScores:
    return DatasetScores(
        values={MIOU: row.miou, "macc": row.macc, "aacc": row.aacc},
        images=row.images,
        protocol={
            "name": row.protocol,
            "short_side": row.short_side,
            "window": row.window,
            "stride": row.stride,
            "top_k": row.top_k,
            "threshold": row.threshold,
        },
    )
