"""Which metrics files fill which rows of a study's tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from regroup.metrics import metrics_files
from regroup.params import Params
from regroup.report.columns import Column
from regroup.report.comparison import Spreads
from regroup.report.reference import Reference, ReferenceTable
from regroup.report.tables import Table, build_table
from regroup.variants import Variant


def table_files(
    params: Params, scored: Mapping[str, Variant], reference: Reference
) -> Iterator[tuple[int, str, Path]]:
    """Table, row id and metrics file of every run of a profile or a study, of each task.

    A variant's first seed is named, done yet or not, and its further ones where they are.
    Tables of fine-tuning runs are filled by what variants.yaml says (`scored`: of its own runs and of those
    that it borrows), the others by the sweep, or by the dissection of the first variant of
    `dissect.variants`.
    """
    layout = params.layout
    for name, variant in scored.items():
        for row in variant.rows:
            for task in params.evaluate:
                for file in metrics_files(layout.scores(task, name)):
                    yield row.table, row.row, file
    for table in reference.tables:
        for name, path in _of_analyses(table, params):
            yield table.number, name, path


def _of_analyses(table: ReferenceTable, params: Params) -> Iterator[tuple[str, Path]]:
    """Row id and metrics file of what scores a checkpoint in other ways, if the profile asks for it."""
    layout, dissect = params.layout, params.dissect
    for row in table.rows:
        if row.same_as is not None:
            continue
        if table.filled_by == "sweep" and params.sweep is not None:
            yield row.id, layout.sweep / f"{row.id}.json"
        if table.filled_by == "dissect" and dissect is not None:
            file = (row.analysis or row.id).replace("{chosen}", str(dissect.chosen))
            yield row.id, layout.dissection / dissect.variants[0] / f"{file}.json"


def printed_numbers(params: Params, reference: Reference) -> tuple[int, ...]:
    """The tables that a profile or a study prints."""
    return reference.numbers if params.tables.numbers is None else params.tables.numbers


def main_table(params: Params, reference: Reference) -> int:
    """The table to show first: the study's main one, or the first that is printed."""
    built = printed_numbers(params, reference)
    if reference.main is not None and (reference.main in built or not built):
        return reference.main
    return built[0] if built else reference.numbers[0]


def profile_table(
    number: int,
    runs: Mapping[str, Sequence[Path]],
    params: Params,
    *,
    reference: Reference,
    spreads: Mapping[Column, Spreads] | None = None,
) -> Table:
    """The table of a profile; where ours stands for the thesis's settings by position only, a note says so.

    Arguments as for `build_table`.

    Raises:
        RegroupError: as `build_table`.
    """
    table = build_table(
        number, runs, profile=params.name, drawn=params.drawn, reference=reference, spreads=spreads
    )
    sweep = params.sweep
    if sweep is None or reference.table(number).filled_by != "sweep":
        return table
    sides, thresholds = sweep.short_side or (params.segmentation.short_side,), sweep.threshold
    if (sides, thresholds) == ((448, 512), (0.9, 0.95, 0.98, 0.99)):
        return table
    note = (
        f"Ours stand by position: resolution {', '.join(map(str, sides))} pixels, "
        f"threshold {', '.join(f'{value:g}' for value in thresholds)}."
    )
    return replace(table, notes=(*table.notes, note))
