"""The validation curves of Figure 24, from the files that evaluation wrote."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from matplotlib.axes import Axes
from numpy.typing import NDArray

from regroup.drawing import style
from regroup.drawing.figures import Caption, Drawn
from regroup.drawing.labelling import figure_note
from regroup.drawing.style import PAGE_WIDTH, PALETTE, Page
from regroup.errors import RegroupError
from regroup.metrics import metrics_files

Floats = NDArray[np.float64]

_COLOURS = tuple(PALETTE[place] for place in (4, 0, 2, 5, 6, 7, 9, 18))  # those that show on white as lines
_MARKERS = "osD^vPX"


@dataclass(frozen=True, eq=False)
class Line:
    """One line of a panel: P points of R runs that differ in their seed alone.

    Attributes:
        epochs: [P].
        miou: [R, P], in percent.
    """

    epochs: Floats
    miou: Floats


def read_lines(lines: Mapping[str, Sequence[str]], folder: Path, dataset: str) -> dict[str, Line]:
    """Read the lines of a panel.

    Args:
        lines: label -> variants, each with all its seeds; several are seeds of one experiment.
        folder: holds `<variant>/validation.parquet` as the stage `evaluate` writes it, and that of further
            seeds below.
        dataset: whose curve.

    Raises:
        RegroupError: a variant has no curve on the dataset, or the seeds' curves have other points.
    """
    return {label: _read_line(names, folder, dataset) for label, names in lines.items()}


def _read_line(names: Sequence[str], folder: Path, dataset: str) -> Line:
    epochs, values = [], []
    for path in (
        file.with_name("validation.parquet") for name in names for file in metrics_files(folder / name)
    ):
        if not path.is_file():
            raise RegroupError(
                f"{path}: no such file; evaluate that variant, or leave it out of learning.panels"
            )
        table = pq.read_table(path)
        if f"val_{dataset}" not in table.column_names:
            raise RegroupError(
                f"{path}: no column val_{dataset}; is it in evaluate.segmentation.validation.datasets?"
            )
        epochs.append(table["epoch"].to_numpy())
        values.append(table[f"val_{dataset}"].to_numpy())
    if any(len(other) != len(epochs[0]) or np.any(other != epochs[0]) for other in epochs):
        raise RegroupError(f"learning.panels: {', '.join(names)} have points at different epochs")
    return Line(epochs[0], np.stack(values))


def draw_learning(
    panels: Mapping[str, Mapping[str, Line]], start: float, *, dataset: str, profile: str, drawn: bool
) -> Drawn:
    """Draw the panels two in a row; bands are one standard deviation over seeds.

    Args:
        panels: title -> label -> line. A label has one colour in all panels.
        start: mIoU in percent of the checkpoint that all runs start from: a dotted line.
        dataset: as it is called in titles.
        profile: stands in the note.
        drawn: whether its data is drawn; title and note say so.
    """
    text = (
        "mIoU on some validation images of each run's snapshots, against epochs. Dotted: the checkpoint that "
        "runs start from. A band is one standard deviation over seeds."
    )
    notes = [
        line for note in (text, figure_note(profile, drawn=drawn) or "") for line in textwrap.wrap(note, 138)
    ]
    rows, height, bottom = -(-len(panels) // 2), 1.9, 0.85 + 0.13 * len(notes)
    data: dict[str, NDArray[Any]] = {}
    with style.settings():
        page = Page(bottom + rows * (height + 1.0) - 0.3)
        label = f" ({profile})" if drawn else ""
        page.text(0.1, page.height - 0.2, f"Validation mIoU while training{label}", fontsize=9, weight="bold")
        labels = list(dict.fromkeys(label for lines in panels.values() for label in lines))
        every = np.concatenate(
            [[start], *(line.miou.ravel() for lines in panels.values() for line in lines.values())]
        )
        for number, (title, lines) in enumerate(panels.items()):
            row, column = divmod(number, 2)
            width = PAGE_WIDTH / 2 - 0.75
            axes = page.axes(
                0.55 + column * PAGE_WIDTH / 2, bottom + (rows - 1 - row) * (height + 1.0), width, height
            )
            _draw_panel(axes, title, lines, labels)
            axes.axhline(start, color=style.INK, linestyle=":", linewidth=1, zorder=0)
            axes.set_ylabel(f"mIoU on {dataset}, %")
            axes.set_ylim(every.min() - 0.5, every.max() + 0.5)
            for name, line in lines.items():
                key = f"{number + 1}: {name}"
                data[f"{key}: epochs"], data[f"{key}: mIoU"] = line.epochs, line.miou
        for number, note in enumerate(reversed(notes)):
            page.text(0.1, 0.08 + 0.13 * number, note, fontsize=6)
    caption = Caption("Validation mIoU while training", text, (24,), profile)
    return Drawn("validation_curves", page.figure, data, caption)


def _draw_panel(axes: Axes, title: str, lines: Mapping[str, Line], labels: Sequence[str]) -> None:
    drawn = []
    for label, line in lines.items():
        number = labels.index(label)
        mean, colour = line.miou.mean(axis=0), _COLOURS[number % len(_COLOURS)]
        marker = _MARKERS[number % len(_MARKERS)]
        drawn += axes.plot(line.epochs, mean, color=colour, marker=marker, markersize=3)
        if len(line.miou) > 1:
            deviation = line.miou.std(axis=0, ddof=1)
            axes.fill_between(line.epochs, mean - deviation, mean + deviation, color=colour, alpha=0.2, lw=0)
    axes.set_title(title, loc="left")
    axes.set_xlabel("epoch")
    # below the axes: wherever the lines go, it is on none of them
    # with labels, or those that start with "_" would be left out
    axes.legend(
        drawn, list(lines), loc="upper left", bbox_to_anchor=(0, -0.22), ncols=2, fontsize=6, borderaxespad=0
    )
