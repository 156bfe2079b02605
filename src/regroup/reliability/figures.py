"""Figures of robustness and calibration, from what metrics files hold: a row of panels a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from regroup.drawing import style
from regroup.drawing.figures import Caption, Drawn
from regroup.drawing.labelling import figure_note
from regroup.metrics import DatasetScores

Array = NDArray[np.float64]

_PANEL, _ROW, _TOP, _BOTTOM = 2.4, 1.9, 0.45, 0.25
"""Width of a panel; height of a row with its labels; room above and below, in inches."""
_COLOURS = style.PALETTE[4], style.PALETTE[0], style.PALETTE[2], style.PALETTE[5]
"""Of lines and their names: the first colours that can be told apart on white."""


def robustness_figure(
    datasets: Mapping[str, DatasetScores], *, variant: str, profile: str, drawn: bool
) -> Drawn:
    """MIoU over the level of each corruption, and over image size.

    Args:
        datasets: scores of the task `robustness` by dataset.
        variant: what was scored, for the title.
        profile: name of the profile.
        drawn: whether its data is drawn.
    """
    with style.settings():
        page, rows = _page(datasets, f"mIoU of {variant} as images get worse", profile, drawn)
        data: dict[str, Array] = {}
        for (left, right), (name, scores) in zip(rows, datasets.items(), strict=True):
            clean, details = scores.values["miou"], dict(scores.details)
            lines = {
                kind: _curve({"0": clean, **levels})
                for kind, levels in _mapping(details["corruptions"]).items()
            }
            sizes = _curve({"100": clean, **_mapping(details["sizes"])})
            _lines(left, lines, "level of corruption (0: none)")
            left.set_xticks(range(6))
            _lines(right, {"": sizes}, "size of images, in percent of the usual")
            right.set_xticks(sizes[0])
            for axes in (left, right):
                axes.set_ylabel("mIoU")
                _from_zero(axes)
            left.set_title(f"{name}, {scores.images} images", loc="left")
            data |= {f"{name}_{kind}": np.array(line) for kind, line in lines.items()}
            data[f"{name}_size"] = np.array(sizes)
    caption = (
        "Left: mIoU in percent over the level of each corruption, as in ImageNet-C; right: over the size at "
        "which images are encoded, windows being as large as ever."
    )
    return Drawn("robustness", page.figure, data, Caption(f"Robustness of {variant}", caption, (), profile))


def calibration_figure(
    datasets: Mapping[str, DatasetScores], *, variant: str, profile: str, drawn: bool
) -> Drawn:
    """Accuracy over confidence, and mIoU over thresholds; arguments as `robustness_figure`."""
    with style.settings():
        page, rows = _page(datasets, f"How sure {variant} is, and its thresholds", profile, drawn)
        data: dict[str, Array] = {}
        for (left, right), (name, scores) in zip(rows, datasets.items(), strict=True):
            bins = [one for one in _rows(scores.details["reliability"]) if one["pixels"]]
            data[f"{name}_reliability"] = _columns(bins, "confidence", "accuracy", "pixels")
            _reliability(left, data[f"{name}_reliability"], len(_rows(scores.details["reliability"])))
            left.set_title(f"{name}: ECE {scores.values['ece']:.1f}%", loc="left")
            if "thresholds" not in scores.details:
                right.axis("off")
                right.text(0.5, 0.5, "no background, no threshold", ha="center", va="center")
                continue
            tried = _rows(scores.details["thresholds"])
            data[f"{name}_thresholds"] = _columns(tried, "threshold", "train", "val")
            _thresholds(right, data[f"{name}_thresholds"], scores.values)
    caption = (
        "Left: of the pixels of a bin of confidence, how many are right; on the diagonal all is as sure as "
        "it should be. Grey, and the size of the dots: the share of pixels. Right: mIoU over the threshold "
        "of background on the training split, where it is chosen, and on the scored one."
    )
    return Drawn("calibration", page.figure, data, Caption(f"Calibration of {variant}", caption, (), profile))


def _page(
    datasets: Mapping[str, DatasetScores], title: str, profile: str, drawn: bool
) -> tuple[style.Page, list[tuple[Axes, Axes]]]:
    height = _TOP + _ROW * len(datasets) + _BOTTOM
    page = style.Page(height)
    page.text(0.1, height - 0.2, title, fontsize=9)
    page.text(0.1, 0.1, figure_note(profile, drawn=drawn) or "", fontsize=6)
    rows = []
    for number in range(len(datasets)):
        bottom = height - _TOP - _ROW * (number + 1) + 0.5
        axes = [page.axes(left, bottom, _PANEL, _ROW - 0.7) for left in (0.5, 4.2)]
        rows.append((axes[0], axes[1]))
    return page, rows


def _lines(axes: Axes, lines: Mapping[str, tuple[list[float], list[float]]], label: str) -> None:
    """Lines with their names at their ends, which are moved apart where they would lie on each other."""
    for (x, y), colour in zip(lines.values(), _COLOURS, strict=False):
        axes.plot(x, y, color=colour, marker="o", markersize=2.5)
    axes.set_xlabel(label)
    top = max((max(y) for _, y in lines.values()), default=1.0)
    at = -np.inf
    order = sorted(range(len(lines)), key=lambda k: list(lines.values())[k][1][-1])
    for number in order:
        name, (x, y) = list(lines.items())[number]
        at = max(y[-1], at + 0.11 * top)
        axes.text(x[-1] + 0.12, at, name, color=_COLOURS[number], va="center")


def _reliability(axes: Axes, bins: Array, count: int) -> None:
    confidence, accuracy, pixels = bins
    axes.bar(
        np.floor(np.minimum(confidence, 1 - 1e-9) * count) / count + 0.5 / count,
        pixels / pixels.sum(),
        width=0.9 / count,
        color="#dddddd",
    )
    axes.plot([0, 1], [0, 1], color=style.INK, linewidth=0.6, linestyle=":")
    axes.plot(confidence, accuracy, color=_COLOURS[0], linewidth=0.8)
    axes.scatter(confidence, accuracy, 2 + 80 * pixels / pixels.sum(), color=_COLOURS[0], clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share that is right")


def _thresholds(axes: Axes, tried: Array, values: Mapping[str, float]) -> None:
    threshold, train, val = tried
    on_train = np.isfinite(train)
    axes.plot(
        threshold[on_train], train[on_train], color=_COLOURS[1], marker="o", markersize=2.5, label="train"
    )
    axes.plot(threshold, val, color=_COLOURS[0], marker="o", markersize=2.5, label="scored split")
    for name, marker in (("fixed", "s"), ("chosen", "D")):
        axes.plot(
            values[f"threshold_{name}"],
            values[f"miou_{name}"],
            color=style.INK,
            marker=marker,
            fillstyle="none",
            markersize=7,
            linestyle="",
            label=f"{name}: {values[f'miou_{name}']:.1f} at {values[f'threshold_{name}']:g}",
        )
    axes.set(xlabel="threshold of background", ylabel="mIoU", xlim=(0, 1))
    _from_zero(axes)
    axes.legend(fontsize=6, loc="best")


def _from_zero(axes: Axes) -> None:
    """Let the vertical axis begin at 0 and end above the highest point."""
    highest = max((float(np.nanmax(line.get_ydata())) for line in axes.get_lines()), default=0.0)
    axes.set_ylim(0, 1.12 * max(highest, 1e-3))


def _curve(values: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    pairs = sorted((float(place), float(value)) for place, value in values.items())
    return [place for place, _ in pairs], [value for _, value in pairs]


def _columns(rows: list[dict[str, Any]], *keys: str) -> Array:
    return np.array(
        [[np.nan if row[key] is None else row[key] for row in rows] for key in keys], dtype=np.float64
    )


def _rows(value: Any) -> list[dict[str, Any]]:
    return list(value)


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value)
