"""Qualitative figures: images, ground truth and predicted masks side by side.

Figures 13, 16, 17, 21, 22 and 25 to 27 of the thesis have this form.
"""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from regroup.drawing import style
from regroup.drawing.labelling import figure_note

Mask = NDArray[np.integer[Any]]
Picture = NDArray[np.uint8]

BACKGROUND = "background"
"""The class that is left grey."""

_GREY = "#c4c4c4"
_UNSCORED = "not scored"
_GAP, _TOP = 0.05, 0.42
"""Between pictures, and above the first row, in inches."""


@dataclass(frozen=True, eq=False)
class PanelSample:
    """One row of a qualitative figure.

    Attributes:
        image: H x W x 3, 0..255.
        truth: H x W, positions in `class_names`; `ignore_index` where nothing is scored.
        predictions: column heading -> H x W, positions in `class_names`.
        class_names: names of the classes; one called "background" is left grey.
        ignore_index: value of `truth` that is not scored.
        label: what stands beside the row, such as a dataset's name.
    """

    image: Picture
    truth: Mask
    predictions: Mapping[str, Mask]
    class_names: Sequence[str]
    ignore_index: int = 255
    label: str = ""

    def __post_init__(self) -> None:
        """Check shapes and class ids.

        Raises:
            ValueError: masks that do not fit the image, or a class id without a name.
        """
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(
                f"image: must be H x W x 3 of uint8, not {self.image.shape} of {self.image.dtype}"
            )
        for name, mask in {"truth": self.truth, **self.predictions}.items():
            if mask.shape != self.image.shape[:2]:
                raise ValueError(f"{name}: mask is {mask.shape}, but the image is {self.image.shape[:2]}")
            ids = set(np.unique(mask).tolist()) - {self.ignore_index}
            if unknown := sorted(i for i in ids if not 0 <= i < len(self.class_names)):
                raise ValueError(
                    f"{name}: no class name for id {unknown[0]}; there are {len(self.class_names)}"
                )


def qualitative_panel(
    samples: Sequence[PanelSample], *, title: str, profile: str, drawn: bool, footnote: str = ""
) -> Figure:
    """Draw one row a sample: image, ground truth, then each prediction.

    A class has one colour throughout, and its name is written on its larger regions, so that nothing rests on
    colour alone. Of drawn images, a note with the attribution of their glyphs stands below.

    Args:
        samples: at least one; all with the same prediction columns.
        title: without the profile's name.
        profile: where the images and the models are from.
        drawn: whether the images are drawn.
        footnote: further text below the legend.

    Raises:
        ValueError: no samples, or samples with different columns.
    """
    if not samples:
        raise ValueError("a panel needs at least one sample")
    columns = tuple(samples[0].predictions)
    if any(tuple(sample.predictions) != columns for sample in samples):
        raise ValueError(f"every sample must have the prediction columns {columns}")
    with style.settings():
        return _draw(
            samples, columns, f"{title} ({profile})", [figure_note(profile, drawn=drawn) or "", footnote]
        )


def panel_data(samples: Sequence[PanelSample]) -> dict[str, NDArray[Any]]:
    """The arrays behind a panel, by name, to be stored beside it."""
    data: dict[str, NDArray[Any]] = {}
    for row, sample in enumerate(samples):
        data[f"{row:02}/image"] = sample.image
        data[f"{row:02}/truth"] = sample.truth
        data[f"{row:02}/class_names"] = np.array(sample.class_names, dtype=np.str_)
        for name, mask in sample.predictions.items():
            data[f"{row:02}/prediction/{name}"] = mask
    return data


def _draw(samples: Sequence[PanelSample], columns: Sequence[str], title: str, notes: Sequence[str]) -> Figure:
    colours, unscored = _colours(samples)
    entries = [*colours, BACKGROUND, *([_UNSCORED] if unscored else [])]
    per_line = max(1, min(6, int(style.PAGE_WIDTH / (0.45 + 0.062 * max(map(len, entries))))))
    left = 0.2 if any(sample.label for sample in samples) else 0.0
    width = (style.PAGE_WIDTH - left - _GAP * (len(columns) + 1)) / (len(columns) + 2)
    heights = [min(width * s.image.shape[0] / s.image.shape[1], 1.25 * width) for s in samples]
    legend = 0.17 * math.ceil(len(entries) / per_line)
    lines = [line for note in notes if note for line in textwrap.wrap(note, 140)]
    page = style.Page(_TOP + sum(heights) + _GAP * len(samples) + legend + 0.13 * len(lines) + 0.17)

    page.text(0, page.height - 0.04, title, fontsize=9, fontweight="bold", va="top")
    for column, heading in enumerate(["image", "ground truth", *columns]):
        middle = left + column * (width + _GAP) + width / 2
        page.text(middle, page.height - _TOP + 0.05, heading, ha="center")
    y = page.height - _TOP
    for sample, height in zip(samples, heights, strict=True):
        y -= height
        if sample.label:
            page.text(0.1, y + height / 2, sample.label, rotation=90, ha="center", va="center")
        masks = [None, sample.truth, *(sample.predictions[name] for name in columns)]
        for column, mask in enumerate(masks):
            axes = page.axes(left + column * (width + _GAP), y, width, height)
            axes.set_axis_off()
            if mask is None:
                axes.imshow(sample.image)
            else:
                _show_mask(axes, sample, mask, colours, width)
        y -= _GAP
    for number, name in enumerate(entries):
        line, column = divmod(number, per_line)
        x, middle = column * style.PAGE_WIDTH / per_line, y - 0.17 * (line + 0.5)
        page.rectangle(x + 0.01, middle - 0.05, 0.16, 0.1, **_swatch(name, colours))
        page.text(x + 0.23, middle, name, va="center_baseline")
    for number, text in enumerate(reversed(lines)):
        page.text(0, 0.05 + 0.13 * number, text, fontsize=6)
    return page.figure


def _colours(samples: Sequence[PanelSample]) -> tuple[dict[str, str], bool]:
    """A colour for each class that appears, largest first; and whether any pixel is not scored."""
    area: Counter[str] = Counter()
    unscored = False
    for sample in samples:
        for mask in (sample.truth, *sample.predictions.values()):
            for index, count in zip(*np.unique(mask, return_counts=True), strict=True):
                if index == sample.ignore_index:
                    unscored = True
                else:
                    area[sample.class_names[index]] += int(count)
    area.pop(BACKGROUND, None)
    return style.class_colours(sorted(area, key=lambda name: (-area[name], name))), unscored


def _swatch(name: str, colours: Mapping[str, str]) -> dict[str, Any]:
    if name == _UNSCORED:
        return {"facecolor": "white", "edgecolor": "#8a8a8a", "hatch": "//////", "linewidth": 0.4}
    return {"facecolor": colours.get(name, _GREY), "edgecolor": "none"}


def _show_mask(axes: Axes, sample: PanelSample, mask: Mask, colours: Mapping[str, str], width: float) -> None:
    """Class colours over the greyed image, thin white outlines, and names on the larger regions."""
    # small images are enlarged first, so that outlines are thin at any size
    zoom = max(1, math.ceil(400 / max(mask.shape)))
    axes.imshow(_composite(enlarged(sample.image, zoom), enlarged(mask, zoom), sample, colours))
    font = 5.0
    point = mask.shape[1] * zoom / (width * 72)
    taken: list[tuple[float, float, float, float]] = []
    ids, counts = np.unique(mask, return_counts=True)
    for index in ids[np.argsort(-counts, kind="stable")]:
        if index == sample.ignore_index or sample.class_names[index] == BACKGROUND:
            continue
        x, y, depth = _deepest(mask == index)
        name = sample.class_names[index]
        half_w, half_h = 0.33 * font * len(name) * point, 0.62 * font * point
        if (depth - 0.5) * zoom < 0.75 * half_h:
            continue
        x = float(np.clip((x + 0.5) * zoom, half_w, max(half_w, mask.shape[1] * zoom - half_w)))
        y = float(np.clip((y + 0.5) * zoom, half_h, mask.shape[0] * zoom - half_h))
        box = (x - half_w, y - half_h, x + half_w, y + half_h)
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            continue
        taken.append(box)
        halo = [withStroke(linewidth=1.4, foreground="white")]
        axes.text(x, y, name, fontsize=font, color=style.INK, ha="center", va="center", path_effects=halo)


def _composite(image: Picture, mask: Mask, sample: PanelSample, colours: Mapping[str, str]) -> Picture:
    picture = greyed(image)
    for index in np.unique(mask):
        inside = mask == index
        if index == sample.ignore_index:
            rows, columns = np.nonzero(inside)
            stripe = (rows + columns) // 4 % 3 == 0
            picture[inside] = np.where(stripe, 170, 255)[:, None]
        elif (name := sample.class_names[index]) in colours:
            picture[inside] = 0.28 * picture[inside] + 0.72 * 255 * np.array(to_rgb(colours[name]))
    picture[outlines(mask)] = 255
    return picture.round().astype(np.uint8)


def greyed(image: Picture) -> NDArray[np.float64]:
    """A pale grey version of an image, [H, W, 3] in 0..255, to put colours on."""
    grey = 0.45 * (image.astype(np.float64) @ (0.299, 0.587, 0.114)) + 0.55 * 235
    return np.repeat(grey[..., None], 3, axis=2)


def outlines(mask: Mask) -> NDArray[np.bool_]:
    """Pixels whose upper or left neighbour has another id."""
    edge = np.zeros(mask.shape, dtype=bool)
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    edge[1:] |= mask[1:] != mask[:-1]
    return edge


def enlarged(array: NDArray[Any], zoom: int) -> NDArray[Any]:
    """Every pixel of [H, W, ...] as `zoom` x `zoom` pixels."""
    return array.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _deepest(region: NDArray[np.bool_]) -> tuple[float, float, int]:
    """The point of a region farthest from its border, x and y, and how far that is in pixels."""
    depth, inner = 0, region
    while inner.any():
        region, depth = inner, depth + 1
        padded = np.pad(inner, 1)
        inner = inner & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    rows, columns = np.nonzero(region)
    # several points may be equally deep: the one nearest to their middle
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return float(columns[nearest]), float(rows[nearest]), depth
