"""The stages of a profile as a drawing: foreach stages collapsed, one box each, sources at the top."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from regroup.errors import RegroupError
from regroup.settings import read_yaml

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
        command: what it runs; `ITEM` stands for the item of a foreach stage.
        count: how many items a foreach or matrix stage has; None for a plain stage.
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


def read_pipeline(paths: Sequence[Path], values: Mapping[str, Any]) -> tuple[StageBox, ...]:
    """The stages of some dvc.yaml files, in their order, templates filled as far as a collapsed view needs.

    Args:
        paths: dvc.yaml files.
        values: what `${...}` stands for: parameters (nested) and what a foreach runs over.

    Raises:
        RegroupError: a file is missing, is not YAML, or a foreach runs over something that is not there.
    """
    entries: dict[str, dict[str, Any]] = {}
    counts: dict[str, int | None] = {}
    for path in paths:
        for name, entry in read_yaml(path)["stages"].items():
            entries[name] = entry.get("do", entry)
            counts[name] = _count(f"{path}: {name}", entry, values)
    made = {name: [_fill(out, values) for out in _outputs(entry)] for name, entry in entries.items()}
    stages = []
    for name, entry in entries.items():
        needs = [_fill(dep, values) for dep in entry.get("deps", ())]
        reads = [other for other, outs in made.items() if other != name and _meet(needs, outs)]
        command = str(_fill(str(entry["cmd"]), values)).replace("${key}", "ITEM")
        about = str(entry.get("desc", ""))
        frozen = bool(entry.get("frozen"))
        stages.append(StageBox(name, about, command, counts[name], tuple(reads), frozen))
    return tuple(stages)


def _count(where: str, entry: Mapping[str, Any], values: Mapping[str, Any]) -> int | None:
    if "matrix" in entry:
        lists = entry["matrix"].items()
        return math.prod(len(_items(f"{where}: matrix.{axis}", items, values)) for axis, items in lists)
    if "foreach" in entry:
        return len(_items(f"{where}: foreach", entry["foreach"], values))
    return None


def _items(where: str, items: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(items, str):
        name = items.removeprefix("${").removesuffix("}")
        items = _look_up(name, values)
        if items is None:
            raise RegroupError(f"{where}: there is no {name}")
    return items


def _outputs(entry: Mapping[str, Any]) -> list[str]:
    outs = [out for key in ("outs", "metrics", "plots") for out in entry.get(key, ())]
    return [next(iter(out)) if isinstance(out, dict) else str(out) for out in outs]


def _fill(text: str, values: Mapping[str, Any]) -> str:
    """Replace the templates that are known; `${key}` stays."""

    def value(match: re.Match[str]) -> str:
        found = _look_up(match[1], values)
        return match[0] if found is None else str(found)

    return re.sub(r"\$\{([\w.]+)\}", value, text)


def _look_up(name: str, values: Mapping[str, Any]) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _meet(needs: Sequence[str], outs: Sequence[str]) -> bool:
    """Whether a path that is read is one that is made, lies in one, or holds one."""
    pairs = ((Path(need).parts, Path(out).parts) for need in needs for out in outs)
    return any(all(_same(*both) for both in zip(need, out, strict=False)) for need, out in pairs)


def _same(one: str, other: str) -> bool:
    """Whether two parts of a path may be the same, where `${key}` or `${item.x}` may be any item."""
    pattern, text = (one, other) if "${" in one else (other, one)
    return (
        re.fullmatch(re.sub(r"\\\$\\\{(key|item(\\\.\w+)?)\\\}", ".+", re.escape(pattern)), text) is not None
    )


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
    wide = {stage.name: BOX[0] for stage in stages}
    sizes = [sum(wide.get(name, 0) for name in row) + GAP[0] * (len(row) - 1) for row in rows]
    width = max(sizes, default=0) + 2 * MARGIN
    middles: dict[str, float] = {}
    for row, size in zip(rows, sizes, strict=True):
        x = (width - size) / 2
        for name in sorted(row, key=lambda name: _mean([middles[other] for other in above[name]], width / 2)):
            middles[name] = x + wide.get(name, 0) / 2
            x += wide.get(name, 0) + GAP[0]
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
