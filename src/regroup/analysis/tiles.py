"""Pages of small pictures in rows and columns, with headings, captions and a colour scale."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from regroup.analysis.panels import Mask, Picture, enlarged, greyed, outlines
from regroup.drawing import style
from regroup.drawing.labelling import figure_note

_GAP, _TOP, _LINE = 0.06, 0.44, 0.13


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture, RGB [H, W, 3] uint8, and a word below it."""

    picture: Picture
    text: str = ""


@dataclass(frozen=True)
class Scale:
    """A colour scale: what it measures, its map, and the values of its ends."""

    label: str
    map: str
    top: float
    low: float = 0.0


def tile_page(
    rows: Sequence[tuple[str, Sequence[Tile | None]]],
    headings: Sequence[str],
    *,
    title: str,
    profile: str,
    drawn: bool,
    notes: Sequence[str] = (),
    scales: Sequence[Scale] = (),
    aspect: float = 0.75,
) -> Figure:
    """Draw tiles in rows.

    Args:
        rows: a label for each row, and its tiles; None leaves a place empty.
        headings: of the columns.
        title: without the profile's name, which is added.
        profile: where images and models are from.
        drawn: whether the images are drawn; it is noted below, with the glyphs' attribution.
        notes: sentences below.
        scales: colour scales below the tiles.
        aspect: height of a tile as a share of its width.
    """
    columns, labelled = len(headings), any(label for label, _ in rows)
    worded = any(tile and tile.text for _, tiles in rows for tile in tiles)
    left = 0.22 if labelled else 0.0
    width = (style.PAGE_WIDTH - left - _GAP * (columns - 1)) / columns
    step = width * aspect + _GAP + (0.12 if worded else 0)
    lines = [
        line
        for note in (*notes, figure_note(profile, drawn=drawn) or "")
        if note
        for line in textwrap.wrap(note, 138)
    ]
    bottom = 0.08 + _LINE * len(lines) + (0.34 if scales else 0)
    with style.settings():
        page = style.Page(_TOP + step * len(rows) + bottom)
        page.text(0, page.height - 0.04, f"{title} ({profile})", fontsize=9, fontweight="bold", va="top")
        for column, heading in enumerate(headings):
            middle = left + column * (width + _GAP) + width / 2
            page.text(middle, page.height - _TOP + 0.05, heading, ha="center")
        for number, (label, tiles) in enumerate(rows):
            y = page.height - _TOP - step * number - width * aspect
            page.text(0.1, y + width * aspect / 2, label, rotation=90, ha="center", va="center")
            for column, tile in enumerate(tiles):
                if tile is None:
                    continue
                x = left + column * (width + _GAP)
                axes = page.axes(x, y, width, width * aspect)
                axes.set_axis_off()
                axes.imshow(tile.picture)  # its own shape, in the middle of its place
                page.text(x + width / 2, y - 0.02, tile.text, ha="center", va="top", fontsize=6)
        for number, scale in enumerate(scales):
            _draw_scale(page, scale, number / len(scales) * style.PAGE_WIDTH, bottom - 0.2)
        for number, text in enumerate(reversed(lines)):
            page.text(0, 0.05 + _LINE * number, text, fontsize=6)
    return page.figure


def _draw_scale(page: style.Page, scale: Scale, x: float, y: float) -> None:
    axes = page.axes(x + 0.1, y, 1.3, 0.09)
    ends = (scale.low, scale.top)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=scale.map, aspect="auto", extent=(*ends, 0, 1))
    axes.set_yticks([])
    ticks = (scale.low, (scale.low + scale.top) / 2, scale.top)
    axes.set_xticks(ticks, [f"{value:.2g}" for value in ticks])
    axes.tick_params(length=2, labelsize=5, pad=1)
    page.text(x + 1.5, y + 0.045, scale.label, va="center", fontsize=6)


def heat(values: NDArray[np.floating], scale: Scale) -> Picture:
    """A map of numbers as colours of a scale; numbers beyond an end have its colour."""
    share = (values - scale.low) / max(scale.top - scale.low, 1e-12)
    coloured = np.asarray(matplotlib.colormaps[scale.map](np.clip(share, 0, 1)))
    picture: Picture = (coloured[..., :3] * 255).round().astype(np.uint8)
    return picture


def tinted(image: Picture, ids: Mask) -> Picture:
    """An image under a colour for each id, with outlines; colours start again after the last."""
    zoom = max(1, math.ceil(256 / max(ids.shape)))
    image, ids = enlarged(image, zoom), enlarged(ids, zoom)
    table = np.array([to_rgb(colour) for colour in style.PALETTE]) * 255
    picture = 0.3 * greyed(image) + 0.7 * table[ids % len(table)]
    picture[outlines(ids)] = 255
    return picture.round().astype(np.uint8)


def spotlit(image: Picture, inside: NDArray[np.bool_]) -> Picture:
    """An image, greyed but for one region, which is outlined."""
    picture = np.where(inside[..., None], image, 0.75 * greyed(image))
    picture[outlines(inside.astype(np.uint8))] = (213, 94, 0)
    return picture.round().astype(np.uint8)
