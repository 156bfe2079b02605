"""The sweep as a picture: a heat map of mIoU for each dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from regroup.drawing import style
from regroup.drawing.figures import Caption, save_figure
from regroup.drawing.labelling import figure_note
from regroup.segmentation.sweep import SweepRow, best

_NAMES = {"short_side": "resolution", "window": "window", "stride": "stride", "top_k": "top"}
_CELL, _LEFT, _TOP, _BOTTOM = 0.32, 2.6, 0.55, 0.8
"""Height of a cell, and room for labels around the cells, in inches."""


def heat_map(rows: Sequence[SweepRow], *, profile: str, drawn: bool) -> Figure:
    """Draw one dataset's rows: thresholds across, everything else down, the best cell framed."""
    varied = [key for key in _NAMES if len({getattr(row, key) for row in rows}) > 1] or ["short_side"]
    points = list(dict.fromkeys(_point(row, varied) for row in rows))
    thresholds = list(dict.fromkeys(row.threshold for row in rows))
    values = np.full((len(points), len(thresholds)), np.nan)
    for row in rows:
        values[points.index(_point(row, varied)), thresholds.index(row.threshold)] = row.miou
    height = _TOP + _CELL * len(points) + _BOTTOM
    width = min(style.PAGE_WIDTH - _LEFT - 0.2, 0.75 * len(thresholds) + 0.4)
    page = style.Page(height)
    axes = page.axes(_LEFT, _BOTTOM, width, _CELL * len(points))
    low, high = np.nanmin(values), np.nanmax(values)
    axes.imshow(values, cmap="YlGnBu", vmin=low, vmax=high + 1e-9, aspect="auto")
    for (y, x), value in np.ndenumerate(values):
        dark = value > low + 0.6 * (high - low)
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", color="white" if dark else style.INK)
    [chosen] = best(rows).values()
    corner = thresholds.index(chosen.threshold) - 0.5, points.index(_point(chosen, varied)) - 0.5
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="#d55e00", linewidth=2, clip_on=False))
    axes.set_xticks(range(len(thresholds)), ["none" if t is None else f"{t:g}" for t in thresholds])
    axes.set_yticks(range(len(points)), points)
    axes.set_xlabel("background threshold")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    page.text(0.1, height - 0.22, f"mIoU on {chosen.dataset} by inference settings", fontsize=9)
    framed = (
        f"Percent, {chosen.images} images, protocol {chosen.protocol}. Framed: the best, {chosen.miou:.2f}."
    )
    fixed = _point(chosen, [key for key in _NAMES if key not in varied])
    page.text(0.1, 0.22, f"{framed} Everywhere: {fixed}." if fixed else framed, fontsize=6)
    page.text(0.1, 0.08, figure_note(profile, drawn=drawn) or "", fontsize=6)
    return page.figure


def write_heat_maps(rows: Sequence[SweepRow], folder: Path, *, profile: str, drawn: bool) -> list[Path]:
    """Write `sweep-<dataset>` as PNG, SVG and data for every dataset; return the paths."""
    paths = []
    with style.settings():
        for name in dict.fromkeys(row.dataset for row in rows):
            mine = [row for row in rows if row.dataset == name]
            thresholds = [np.nan if row.threshold is None else row.threshold for row in mine]
            data = {
                "miou": np.array([row.miou for row in mine]),
                "threshold": np.array(thresholds),
                **{
                    key: np.array([getattr(row, key) for row in mine])
                    for key in ("short_side", "window", "stride", "top_k")
                },
            }
            caption = Caption(
                f"mIoU on {name} by inference settings",
                "One cell a setting: background thresholds across, everything else down; the best is framed.",
                (),
                profile,
            )
            figure = heat_map(mine, profile=profile, drawn=drawn)
            paths += save_figure(figure, folder / f"sweep-{name}", data, caption=caption)
    return paths


def _point(row: SweepRow, keys: Sequence[str]) -> str:
    return ", ".join(f"{_NAMES[key]} {getattr(row, key)}" for key in keys)
