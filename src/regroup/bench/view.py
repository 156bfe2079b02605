"""What checkpoints scored in a bench: a table an evaluation, CSV for programs, text for the terminal."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from regroup.drawing.grid import Grid, console, csv_text, markdown, markdown_text
from regroup.drawing.labelling import table_note
from regroup.metrics import Metric, Metrics
from regroup.report.columns import DATASET_TITLES
from regroup.report.scores import rounded

MISSING = "missing"
CHANCE = "chance"
"""The row of what a random answer scores, where tasks say so; a key of `details` in the metrics files."""
DEVIATION = "standard_deviation"
"""Likewise the key of how far the task's own draws move a score."""
DECIMALS = {"rank": 1, "count": 0, "ratio": 3}
"""That values are shown with which are no percentages; bench.csv has them all."""

PROTOCOL_TITLES = {
    "voc": "VOC21",
    "voc20": "VOC20",
    "context60": "Context60",
    "context59": "Context59",
    "context459": "Context459",
    "coco_object_stuffthingmaps": "Object (maps)",
    "coco_object_instances": "Object (instances)",
    "coco_stuff171": "Stuff",
    "cityscapes19": "Cityscapes",
    "ade150": "ADE150",
    "ade847": "ADE847",
}
"""What papers call the data sets of segmentation: an image set with its classes."""

MOST_COLUMNS = 12
"""Of a table; one that has more, and fewer rows, is turned: a row a metric, a column a checkpoint."""

_NARROWEST = 24
"""Columns of the terminal that are left to the checkpoints' names."""

Scores = Mapping[str, Mapping[str, Metrics]]
"""Checkpoint -> evaluation -> what was scored."""


@dataclass(frozen=True)
class Column:
    """One column: a metric on a data set of an evaluation."""

    evaluation: str
    dataset: str
    name: str
    metric: Metric
    title: str

    def value(self, scores: Mapping[str, Metrics]) -> float | None:
        """What a checkpoint scored; None where it did not."""
        found = scores.get(self.evaluation)
        there = None if found is None else found.datasets.get(self.dataset)
        return None if there is None else there.values.get(self.name)

    def deviation(self, scores: Mapping[str, Metrics]) -> float | None:
        """How far the task's own draws move what a checkpoint scored, e.g. those of few images a class."""
        return self._detail(scores, DEVIATION)

    def chance(self, scores: Scores) -> float | None:
        """What a random answer scores, as the evaluation of any checkpoint says."""
        told = (self._detail(some, CHANCE) for some in scores.values())
        return next((value for value in told if value is not None), None)

    def _detail(self, scores: Mapping[str, Metrics], key: str) -> float | None:
        found = scores.get(self.evaluation)
        there = None if found is None else found.datasets.get(self.dataset)
        told = there.details.get(key) if there is not None else None
        value = told.get(self.name) if isinstance(told, dict) else None
        return float(value) if isinstance(value, int | float) else None


def columns_of(scores: Scores, evaluation: str) -> list[Column]:
    """As papers print it: the main metric of each of several data sets, or every metric of a single one."""
    found: dict[tuple[str, str], Column] = {}
    for some in scores.values():
        if (one := some.get(evaluation)) is None:
            continue
        several = len(one.datasets) > 1
        for dataset, there in one.datasets.items():
            for name in there.values:
                if several and name != one.main:
                    continue
                metric = one.metrics[name]
                title = _place(one, dataset) if several else metric.title
                column = Column(evaluation, dataset, name, metric, title)
                found.setdefault((dataset, name), column)
    return list(found.values())


def main_columns(scores: Scores) -> list[Column]:
    """The main metric of every evaluation on each of its data sets; members by their own names, if unique."""
    found = []
    every = evaluations_of(scores)
    own = Counter(name.rpartition("/")[2] for name in every)
    for evaluation in every:
        last = evaluation.rpartition("/")[2]
        one = next(some[evaluation] for some in scores.values() if evaluation in some)
        for dataset, there in one.datasets.items():
            if one.main in there.values:
                metric = one.metrics[one.main]
                place = f" {_place(one, dataset)}" if len(one.datasets) > 1 else ""
                title = f"{last if own[last] == 1 else evaluation}{place}, {metric.title}"
                found.append(Column(evaluation, dataset, one.main, metric, title))
    return found


def evaluations_of(scores: Scores) -> list[str]:
    """All that any checkpoint was scored on, in their order."""
    return list(dict.fromkeys(name for some in scores.values() for name in some))


def grids(scores: Scores, *, profile: str) -> list[Grid]:
    """A table an evaluation, a row a checkpoint, or turned where that is too wide; last a random answer's."""
    return [_grid(scores, name, profile) for name in evaluations_of(scores)]


def bench_markdown(
    scores: Scores, faults: Mapping[str, Mapping[str, str]], *, title: str, profile: str, drawn: bool
) -> str:
    """All tables, and what could not be scored.

    Args:
        scores: of each checkpoint.
        faults: checkpoint -> evaluation -> why it was not scored.
        title: the first heading.
        profile: whose data it is.
        drawn: whether that is drawn.
    """
    note = table_note(profile, drawn=drawn, printed=False)
    parts = [f"# {markdown_text(title)}\n", *([f"{markdown_text(note)}\n"] if note else [])]
    parts += [markdown(grid) for grid in grids(scores, profile=profile)]
    if lines := [
        f"- {markdown_text(f'{checkpoint}, {name}: {reason}')}\n"
        for checkpoint, some in faults.items()
        for name, reason in some.items()
    ]:
        parts.append("Not scored:\n\n" + "".join(lines))
    return "\n".join(parts)


def bench_console(scores: Scores, *, profile: str, drawn: bool, width: int = 100) -> str:
    """The tables for a terminal; a wide one continues below."""
    note = table_note(profile, drawn=drawn, printed=False)
    tables = [
        console(
            grid.heading,
            [[cell] for cell in head],
            [[[cell] for cell in row] for row in body],
            notes,
            width=width,
        )
        for grid in grids(scores, profile=profile)
        for head, body, notes in _parts(grid, width)
    ]
    return "\n".join([*tables, *([textwrap.fill(note, width) + "\n"] if note else [])])


def bench_csv(scores: Scores) -> str:
    """A line a value, with every digit."""
    lines = [["checkpoint", "evaluation", "dataset", "metric", "value", "unit"]]
    for checkpoint, some in scores.items():
        for evaluation, one in some.items():
            for dataset, there in one.datasets.items():
                for name, value in there.values.items():
                    unit = one.metrics[name].unit
                    lines.append([checkpoint, evaluation, dataset, name, repr(value), unit])
    return csv_text(lines)


def shown(value: float | None, metric: Metric) -> str:
    """A value with the digits of its unit."""
    if value is None:
        return MISSING
    if metric.unit == "percent":  # as the report rounds it
        return str(rounded(value))
    return f"{value:.{DECIMALS[metric.unit]}f}"


def _place(one: Metrics, dataset: str) -> str:
    """What a data set is called: by its protocol, unless another one here has the same."""
    name = one.datasets[dataset].protocol.get("name")
    alone = [other.protocol.get("name") for other in one.datasets.values()].count(name) == 1
    title = PROTOCOL_TITLES.get(str(name)) if alone else None
    return title or DATASET_TITLES.get(dataset, dataset)


def _cell(column: Column, scores: Mapping[str, Metrics]) -> str:
    value, deviation = column.value(scores), column.deviation(scores)
    text = shown(value, column.metric)
    return text if value is None or deviation is None else f"{text} ± {shown(deviation, column.metric)}"


def _grid(scores: Scores, evaluation: str, profile: str) -> Grid:
    columns = columns_of(scores, evaluation)
    rows = [
        (checkpoint, *(_cell(column, some) for column in columns))
        for checkpoint, some in scores.items()
        if evaluation in some
    ]
    random = [column.chance(scores) for column in columns]
    if any(value is not None for value in random):
        rows.append(
            (
                CHANCE,
                *(shown(v, c.metric) if v is not None else "" for v, c in zip(random, columns, strict=True)),
            )
        )
    one = next(some[evaluation] for some in scores.values() if evaluation in some)
    task = str(one.settings.get("task", evaluation))
    of = "" if task == evaluation.rpartition("/")[2] else f" ({task})"
    several = len(one.datasets) > 1
    head = f"{evaluation}{of}{f': {one.metrics[one.main].title}' if several else ''}"
    images = "; ".join(
        f"{dataset}: {there.protocol.get('name') or 'no protocol'}, {there.images:,} images"
        for dataset, there in one.datasets.items()
    )
    units = ", ".join(dict.fromkeys(column.metric.unit for column in columns))
    lines = [("checkpoint", *(column.title for column in columns)), *rows]
    if len(columns) > MOST_COLUMNS and len(rows) < len(columns):
        first, *others = zip(*lines, strict=True)
        lines = [("metric", *first[1:]), *others]
    return Grid(
        heading=f"{head} [{profile}]",
        columns=lines[0],
        rows=tuple(lines[1:]),
        texts=1,
        notes=(f"{units[:1].upper()}{units[1:]}. {images}.",),
    )


def _parts(grid: Grid, width: int) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]], Sequence[str]]]:
    """The grid in parts that fit: heading, rows and, behind the last, the notes."""
    sizes = [max(len(row[k]) for row in (grid.columns, *grid.rows)) + 2 for k in range(len(grid.columns))]
    groups: list[list[int]] = [[]]
    room = width - min(sizes[0], _NARROWEST)
    for k in range(1, len(sizes)):
        if groups[-1] and sum(sizes[j] for j in groups[-1]) + sizes[k] > room:
            groups.append([])
        groups[-1].append(k)
    for number, group in enumerate(groups):
        places = [0, *group]
        notes = grid.notes if number == len(groups) - 1 else ()
        yield (
            tuple(grid.columns[k] for k in places),
            [tuple(row[k] for k in places) for row in grid.rows],
            notes,
        )
