"""A grid of inference settings (section 5.11, Table 12), with as few runs of the model as it takes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from regroup.errors import RegroupError
from regroup.io import write_json, write_text
from regroup.segmentation.evaluation import evaluate_decisions
from regroup.segmentation.inference import Decision
from regroup.segmentation.resolved import resolve_datasets
from regroup.segmentation.scores import DatasetScores
from regroup.segmentation.settings import DatasetParams, InferenceParams, SweepGrid
from regroup.settings import parse

if TYPE_CHECKING:
    from regroup.model import Backbone


@dataclass(frozen=True)
class SweepRow:
    """Scores of one dataset at one point of the grid, in percent.

    `threshold` is None for a protocol without background, where it does nothing.
    """

    dataset: str
    protocol: str
    short_side: int
    window: int
    stride: int
    top_k: int
    threshold: float | None
    miou: float
    macc: float
    aacc: float
    images: int


def sweep(
    model: Backbone,
    datasets: Mapping[str, DatasetParams],
    params: InferenceParams,
    grid: SweepGrid,
    raw_roots: Mapping[str, Path],
    *,
    batch: int = 8,
    progress: bool = False,
    text_cache: Path | None = None,
) -> list[SweepRow]:
    """Score a model on datasets at every point of a grid.

    The model runs once for each resolution, window and stride; all thresholds and top-k are decided from what
    it said.

    Args:
        model: on any device.
        datasets: by name; their own thresholds are not used.
        params: values of what the grid leaves out.
        grid: what to try.
        raw_roots: the root of each source's raw data.
        batch: windows in a pass of the model.
        progress: whether to show progress bars.
        text_cache: folder of class embeddings, as `embed_prompts` keeps it.

    Raises:
        RegroupError: the grid is empty or impossible, or as `evaluate`.
    """
    rows = []
    points = list(encodings(params, grid))
    for name, dataset in resolve_datasets(datasets, raw_roots).items():
        thresholds = grid.threshold if dataset.protocol.background else (dataset.threshold,)
        decisions = [Decision(t, k) for k, t in product(grid.top_k or (params.top_k,), thresholds)]
        for point in points:
            title = f"{name} {point.short_side}/{point.window}/{point.stride}"
            scores = evaluate_decisions(
                model,
                dataset,
                point,
                decisions,
                batch=batch,
                progress=progress,
                title=title,
                text_cache=text_cache,
            )
            rows += [_row(name, point, d, s) for d, s in zip(decisions, scores, strict=True)]
    return rows


def encodings(params: InferenceParams, grid: SweepGrid) -> Iterator[InferenceParams]:
    """Settings that the model has to run for, one by one.

    Raises:
        RegroupError: an impossible size, or every stride is larger than every window.
    """
    given = {key: getattr(params, key) for key in ("short_side", "window", "stride")}
    axes = [getattr(grid, key) or (value,) for key, value in given.items()]
    found = 0
    for short_side, window, stride in product(*axes):
        if stride <= window:
            found += 1
            long_side = max(params.long_side, short_side)
            values = {"short_side": short_side, "window": window, "stride": stride, "long_side": long_side}
            yield parse(InferenceParams, {**values, "top_k": params.top_k}, Path("sweep"))
    if not found:
        raise RegroupError("sweep: every stride is larger than every window; give a smaller stride")


def _row(name: str, point: InferenceParams, decision: Decision, scores: DatasetScores) -> SweepRow:
    return SweepRow(
        dataset=name,
        protocol=scores.protocol["name"],
        short_side=point.short_side,
        window=point.window,
        stride=point.stride,
        top_k=decision.top_k,
        threshold=scores.protocol["threshold"],
        miou=scores.miou,
        macc=scores.macc,
        aacc=scores.aacc,
        images=scores.images,
    )


def best(rows: Sequence[SweepRow]) -> dict[str, SweepRow]:
    """The row of the highest mIoU of each dataset; the earliest of equals."""
    found: dict[str, SweepRow] = {}
    for row in rows:
        if row.dataset not in found or row.miou > found[row.dataset].miou:
            found[row.dataset] = row
    return found


def format_markdown(rows: Sequence[SweepRow], title: str) -> str:
    """A table as Markdown, mIoU with two digits, the best of each dataset in bold."""
    chosen = best(rows).values()
    columns = ("dataset", "resolution", "window", "stride", "top-k", "threshold", "mIoU")
    lines = [f"# {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        score = f"**{row.miou:.2f}**" if any(row is one for one in chosen) else f"{row.miou:.2f}"
        threshold = "no background" if row.threshold is None else f"{row.threshold:g}"
        cells = (row.dataset, row.short_side, row.window, row.stride, row.top_k, threshold, score)
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def write_sweep(rows: Sequence[SweepRow], folder: Path, *, title: str) -> list[Path]:
    """Write `sweep.csv`, `sweep.md`, `sweep.json` (all rows, and the best of each dataset); return paths."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(SweepRow)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    table, markdown, values = (folder / f"sweep.{suffix}" for suffix in ("csv", "md", "json"))
    write_text(table, text.getvalue())
    write_text(markdown, format_markdown(rows, title))
    chosen = {name: asdict(row) for name, row in best(rows).items()}
    write_json(values, {"title": title, "rows": [asdict(row) for row in rows], "best": chosen})
    return [table, markdown, values]
