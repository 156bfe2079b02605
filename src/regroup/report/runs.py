"""Which metrics files fill which rows of the thesis's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from regroup.metrics import METRICS
from regroup.params import Params
from regroup.report.columns import Column
from regroup.report.comparison import Spread
from regroup.report.reference import thesis
from regroup.report.tables import Table, build_table
from regroup.variants import Variant


def table_files(params: Params, variants: Mapping[str, Variant]) -> Iterator[tuple[int, str, Path]]:
    """Table, row id and metrics file of every run of a profile, of each task, whether it was done yet or not.

    Tables of fine-tuning runs are filled by what variants.yaml says, Table 12 by the sweep, Tables 1 and 2 by
    the dissection of the first variant of `dissect.variants`.
    """
    layout = params.layout
    for name, variant in variants.items():
        for row in variant.rows:
            for task in params.evaluate:
                yield row.table, row.row, layout.scores(task, name) / METRICS
    for printed in thesis().table(12).rows:
        yield 12, printed.id, layout.sweep / f"{printed.id}.json"
    folder, chosen = layout.dissection / params.dissect.variants[0], params.dissect.chosen
    for printed in thesis().table(2).rows:
        yield 2, printed.id, folder / f"{printed.id}.json"
    yield 1, "visual_grouping_wb", folder / f"k{chosen}_wb.json"
    yield 1, "alignment", folder / "alignment.json"


def profile_table(
    number: int,
    runs: Mapping[str, Sequence[Path]],
    params: Params,
    *,
    spreads: Mapping[Column, Spread | None] | None = None,
) -> Table:
    """The table of a profile; where ours stands for the thesis's settings by position only, a note says so.

    Arguments as for `build_table`.

    Raises:
        RegroupError: as `build_table`.
    """
    table = build_table(number, runs, profile=params.name, drawn=params.drawn, spreads=spreads)
    sides, thresholds = params.sweep.short_side or (params.segmentation.short_side,), params.sweep.threshold
    if number != 12 or (sides, thresholds) == ((448, 512), (0.9, 0.95, 0.98, 0.99)):
        return table
    note = (
        f"Ours stand by position: resolution {', '.join(map(str, sides))} pixels, "
        f"threshold {', '.join(f'{value:g}' for value in thresholds)}."
    )
    return replace(table, notes=(*table.notes, note))
