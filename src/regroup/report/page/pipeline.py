"""The stages of a profile as a drawing: one box each, sources at the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from regroup.errors import RegroupError

BOX = (132, 40)
"""Width and height of a stage's box, in the drawing's own pixels."""
GAP = (28, 44)
MARGIN = 8


@dataclass(frozen=True)
class StageBox:
    """One stage of dvc.yaml.

    Attributes:
        name: in dvc.yaml.
        about: its `desc`.
        command: what it runs; `ITEM` stands for the item where it has some.
        count: how many items it has; None for a plain stage.
        reads: names of the stages whose outputs it reads.
        frozen: DVC does not run it by itself.
    """

    name: str
    about: str
    command: str
    count: int | None
    reads: tuple[str, ...]
    frozen: bool


@dataclass(frozen=True)
class Placed:
    """A box with its upper left corner."""

    stage: StageBox
    x: float
    y: float


@dataclass(frozen=True)
class Drawing:
    """Boxes and the curves between them, in a frame of `width` x `height`."""

    boxes: tuple[Placed, ...]
    edges: tuple[str, ...]
    """SVG path data."""
    width: float
    height: float


def draw(stages: Sequence[StageBox]) -> Drawing:
    """Place the stages in layers, each below what it reads; an edge over several layers has its own lane."""
    layers = _layers(stages)
    rows: list[list[str]] = [[] for _ in range(max(layers.values(), default=-1) + 1)]
    above: dict[str, list[str]] = {}
    routes: list[list[str]] = []
    for stage in stages:
        rows[layers[stage.name]].append(stage.name)
        above.setdefault(stage.name, [])
    for stage in stages:
        for source in stage.reads:
            lanes = [f"{source} to {stage.name} {k}" for k in range(layers[source] + 1, layers[stage.name])]
            route = [source, *lanes, stage.name]
            for k, name in enumerate(lanes, start=layers[source] + 1):
                rows[k].append(name)
            for upper, lower in pairwise(route):
                above.setdefault(lower, []).append(upper)
            routes.append(route)
    widths = {stage.name: BOX[0] for stage in stages}
    sizes = [sum(widths.get(name, 0) for name in row) + GAP[0] * (len(row) - 1) for row in rows]
    width = max(sizes, default=0) + 2 * MARGIN
    middles: dict[str, float] = {}
    for row, size in zip(rows, sizes, strict=True):
        x = (width - size) / 2
        for name in sorted(row, key=lambda name: _mean([middles[other] for other in above[name]], width / 2)):
            middles[name] = x + widths.get(name, 0) / 2
            x += widths.get(name, 0) + GAP[0]
    tops = {name: MARGIN + k * (BOX[1] + GAP[1]) for k, row in enumerate(rows) for name in row}
    boxes = tuple(Placed(s, middles[s.name] - BOX[0] / 2, tops[s.name]) for s in stages)
    edges = tuple(_curve([(middles[name], tops[name]) for name in route]) for route in routes)
    return Drawing(boxes, edges, width, len(rows) * (BOX[1] + GAP[1]) - GAP[1] + 2 * MARGIN)


def _layers(stages: Sequence[StageBox]) -> dict[str, int]:
    by_name = {stage.name: stage for stage in stages}
    layers: dict[str, int] = {}

    def depth(name: str, waiting: tuple[str, ...] = ()) -> int:
        if name in waiting:
            raise RegroupError(f"dvc.yaml: {' -> '.join((*waiting, name))}: these stages wait for each other")
        if name not in layers:
            layers[name] = 1 + max(
                (depth(other, (*waiting, name)) for other in by_name[name].reads), default=-1
            )
        return layers[name]

    for stage in stages:
        depth(stage.name)
    for stage in stages:
        # what reads nothing stands right above the first stage that needs it
        below = [layers[other.name] for other in stages if stage.name in other.reads]
        if not stage.reads and below:
            layers[stage.name] = min(below) - 1
    return layers


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _curve(places: Sequence[tuple[float, float]]) -> str:
    """From the lower edge of the first place, straight down its lanes, to the upper edge of the last."""
    (x, y), *between, (end_x, end_y) = places
    y += BOX[1]
    path = f"M{x:g} {y:g}"
    for lane, top in [*between, (end_x, end_y)]:
        bend = (top - y) / 2
        path += f"C{x:g} {y + bend:g} {lane:g} {top - bend:g} {lane:g} {top:g}"
        x, y = lane, top
        if (lane, top) != (end_x, end_y):
            y += BOX[1]
            path += f"V{y:g}"
    return path
