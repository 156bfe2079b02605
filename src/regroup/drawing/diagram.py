"""Diagrams: boxes, arrows and words on a page, placed by hand in inches from its upper left corner."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import NDArray

from regroup.drawing import style

Kind = Literal["input", "frozen", "trained", "operation", "loss"]
Point = tuple[float, float]

_FACES: dict[Kind, str] = {
    "input": "#ffffff",
    "frozen": "#e3e5e8",
    "trained": "#ffdf9e",
    "operation": "#dcf1ea",
    "loss": "#cfe5f6",
}
MEANINGS: Mapping[Kind, str] = {
    "input": "data",
    "trained": "layers that are trained",
    "frozen": "layers that stay as pretrained",
    "operation": "without parameters",
    "loss": "loss",
}
_TOP, _LINE = 0.42, 0.13
_LINES: dict[str, Any] = {"color": style.INK, "linewidth": 0.8, "solid_capstyle": "round", "zorder": 1}


@dataclass(frozen=True)
class Box:
    """A box that was drawn: its middle, its size and its words."""

    x: float
    y: float
    width: float
    height: float
    text: str

    @property
    def top(self) -> Point:
        """Middle of the upper edge."""
        return self.x, self.y - self.height / 2

    @property
    def bottom(self) -> Point:
        """Middle of the lower edge."""
        return self.x, self.y + self.height / 2

    @property
    def left(self) -> Point:
        """Middle of the left edge."""
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> Point:
        """Middle of the right edge."""
        return self.x + self.width / 2, self.y


class Diagram:
    """A page with a title above, and below it what the colours mean and some notes."""

    def __init__(
        self,
        title: str,
        profile: str,
        height: float,
        notes: Sequence[str] = (),
        meanings: Mapping[Kind, str] | None = None,
    ) -> None:
        """Make a page.

        Args:
            title: without the profile's name, which is added.
            profile: whose sizes are drawn.
            height: inches for boxes and arrows; title, legend and notes are added.
            notes: sentences below.
            meanings: what kinds of boxes mean here, where it is not what they mean by default.
        """
        self._meanings = {**MEANINGS, **(meanings or {})}
        self._lines = [line for note in notes for line in textwrap.wrap(note, 138)]
        self.boxes: list[Box] = []
        self._kinds: list[Kind] = []
        self.area = height
        with style.settings():
            self.page = style.Page(_TOP + height + 0.35 + _LINE * len(self._lines))
            self.page.text(
                0, self.page.height - 0.04, f"{title} ({profile})", fontsize=9, fontweight="bold", va="top"
            )
            self.axes = self.page.axes(0, 0, style.PAGE_WIDTH, self.page.height)
            self.axes.set_axis_off()
            self.axes.set_xlim(0, style.PAGE_WIDTH)
            self.axes.set_ylim(self.page.height - _TOP, -_TOP)
            for number, line in enumerate(reversed(self._lines)):
                self.page.text(0, 0.05 + _LINE * number, line, fontsize=6)

    def box(
        self, x: float, y: float, text: str, kind: Kind, *, width: float = 1.9, height: float = 0.36
    ) -> Box:
        """Draw a box around (x, y) with words in its middle."""
        box = Box(x, y, width, height, text)
        with style.settings():
            self.axes.add_patch(
                FancyBboxPatch(
                    (x - width / 2, y - height / 2),
                    width,
                    height,
                    boxstyle="round,pad=0,rounding_size=0.05",
                    facecolor=_FACES[kind],
                    edgecolor=style.INK,
                    # not by colour alone
                    linewidth=1.5 if kind == "trained" else 0.6,
                    linestyle=(0, (3, 2)) if kind == "input" else "-",
                    zorder=2,
                )
            )
            self.axes.text(x, y, text, ha="center", va="center", fontsize=6.5, linespacing=1.15, zorder=3)
        self.boxes.append(box)
        if kind not in self._kinds:
            self._kinds.append(kind)
        return box

    def plus(self, x: float, y: float, sign: str = "+") -> Box:
        """Draw a small circle where values are added, or otherwise joined."""
        with style.settings():
            self.axes.text(
                x,
                y,
                sign,
                ha="center",
                va="center",
                fontsize=8,
                zorder=3,
                bbox={"boxstyle": "circle,pad=0.12", "facecolor": "white", "edgecolor": style.INK, "lw": 0.6},
            )
        return Box(x, y, 0.2, 0.2, sign)

    def arrow(self, *points: Point, dashed: bool = False) -> None:
        """Draw a line from point to point with a head at its end."""
        xs, ys = zip(*points, strict=True)
        line = (0, (3, 2)) if dashed else "-"
        with style.settings():
            if len(points) > 2:
                self.axes.plot(xs[:-1], ys[:-1], linestyle=line, **_LINES)
            self.axes.annotate(
                "",
                xy=points[-1],
                xytext=points[-2],
                arrowprops={
                    "arrowstyle": "-|>,head_width=0.16,head_length=0.32",
                    "color": style.INK,
                    "lw": 0.8,
                    "linestyle": line,
                    "shrinkA": 0,
                    "shrinkB": 0,
                },
                zorder=1,
            )

    def down(self, boxes: Sequence[Box]) -> None:
        """Arrows from each box to the next, which stands below it."""
        for above, below in pairwise(boxes):
            self.arrow(above.bottom, below.top)

    def words(self, x: float, y: float, text: str, *, size: float = 6, align: str = "left") -> None:
        """Write words beside what is drawn."""
        with style.settings():
            self.axes.text(x, y, text, ha=align, va="center", fontsize=size, linespacing=1.2, zorder=3)

    def finish(self) -> Figure:
        """Draw what the colours mean, and give the figure."""
        x, y = 0.0, 0.2 + _LINE * len(self._lines)
        with style.settings():
            for kind, meaning in self._meanings.items():
                if kind not in self._kinds:
                    continue
                self.page.rectangle(
                    x + 0.01,
                    y - 0.05,
                    0.18,
                    0.1,
                    facecolor=_FACES[kind],
                    edgecolor=style.INK,
                    linewidth=1.2 if kind == "trained" else 0.6,
                    linestyle=(0, (3, 2)) if kind == "input" else "-",
                )
                self.page.text(x + 0.25, y, meaning, va="center_baseline", fontsize=6)
                x += 0.5 + 0.052 * len(meaning)
        return self.page.figure

    @property
    def data(self) -> dict[str, NDArray[np.generic]]:
        """Words, middles and sizes of the boxes."""
        return {
            "text": np.array([box.text for box in self.boxes], dtype=np.str_),
            "box": np.array([(box.x, box.y, box.width, box.height) for box in self.boxes]),
        }
