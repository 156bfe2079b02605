"""One look for every figure: settings, page width, colours, and what figures of drawn data must say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.rcsetup import cycler

PAGE_WIDTH = 7.0
"""Width of every figure in inches: a text column of an A4 or letter page."""

DPI = 150
"""Of the PNG files."""

SVG_DPI = 75
"""Of pictures inside SVG files, which store them in a third more bytes than PNG."""

INK = "#1f2328"
"""Colour of text and lines."""

PALETTE = (
    "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#9600f0",
    "#00ff87", "#964b1e", "#f02dff", "#a5f0b4", "#784b78", "#ff1e4b", "#693cc3", "#c300a5",
    "#78b469", "#ffc35a", "#a52d4b", "#ffc3ff", "#7869e1", "#5a874b", "#c3b45a", "#ff78e1",
)  # fmt: skip
"""Colours of classes and lines, the most distinct first.

The first seven are Okabe and Ito's. Each further one is the colour that is farthest from those before it and
from greys, in CIELAB, for the worst of normal, protan, deutan and tritan vision (Machado et al. 2009). After
some twelve no palette is safe on colour alone, so figures write names beside or on what they colour.
"""

_SETTINGS = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # ships with matplotlib, so no figure depends on the fonts of a machine
    "font.size": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "regroup",  # element ids are random without it
    "text.color": INK,
    "text.parse_math": False,  # titles and names are the user's: two dollar signs in them are no mathematics
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def settings() -> Iterator[None]:
    """Matplotlib's defaults with the project's look, whatever the user's own configuration says."""
    with matplotlib.style.context(["default", {**_SETTINGS, "axes.prop_cycle": cycler(color=PALETTE)}]):
        yield


def power_ticks(axes: Axes) -> None:
    """Print the ticks of logarithmic axes as powers: theirs are the only texts that are mathematics."""
    for axis in (axes.xaxis, axes.yaxis):
        for tick in (*axis.get_major_ticks(_DECADES), *axis.get_minor_ticks(8 * _DECADES)):
            tick.label1.set_parse_math(True)


_DECADES = 16


class Page:
    """A figure of page width, placed by hand: positions and sizes in inches from the lower left corner."""

    def __init__(self, height: float) -> None:
        """Make an empty figure of `height` inches, bound to no display."""
        self.height = height
        self.figure = Figure(figsize=(PAGE_WIDTH, height))
        FigureCanvasAgg(self.figure)

    def text(self, x: float, y: float, text: str, **look: Any) -> None:
        """Write text."""
        self.figure.text(x / PAGE_WIDTH, y / self.height, text, **look)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Add axes."""
        box = (x / PAGE_WIDTH, y / self.height, width / PAGE_WIDTH, height / self.height)
        return self.figure.add_axes(box)

    def rectangle(self, x: float, y: float, width: float, height: float, **look: Any) -> None:
        """Draw a rectangle."""
        size = width / PAGE_WIDTH, height / self.height
        self.figure.add_artist(Rectangle((x / PAGE_WIDTH, y / self.height), *size, **look))


def class_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each class name, in the order given; after the last colour they start again."""
    return {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(dict.fromkeys(names))}
