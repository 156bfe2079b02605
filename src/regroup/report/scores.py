"""Runs of a row: what one checkpoint scored, perhaps on several tasks, from its metrics files."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

from regroup.errors import RegroupError
from regroup.metrics import Metrics, read_metrics
from regroup.report.columns import Column, Value, value_of


@dataclass(frozen=True)
class Run:
    """One checkpoint: its identity, what it scored on each task, and the folder of each task's files."""

    weights: str
    tasks: tuple[Metrics, ...]
    folders: tuple[Path, ...] = ()

    @property
    def seed(self) -> int | None:
        """Of its training; None where nothing was trained, or no file says it."""
        return next((one.seed for one in self.tasks if one.seed is not None), None)

    @property
    def variant(self) -> str:
        """What was scored, as it is called in the study."""
        return self.tasks[0].variant

    def folder(self, task: str) -> Path | None:
        """Where the files of a task lie, beside its metrics; None where it was not scored on that."""
        return next(
            (place for one, place in zip(self.tasks, self.folders, strict=True) if one.task == task), None
        )

    def at(self, column: Column) -> Value | None:
        """The value of a column; None where it was not scored."""
        return next((value for one in self.tasks if (value := value_of(one, column)) is not None), None)


def read_runs(paths: Sequence[Path], *, profile: str) -> tuple[Run, ...]:
    """Read the metrics files of one row's runs (several: seeds); files that do not exist yet are left out.

    Files of several tasks that scored the same weights are one run.

    Raises:
        RegroupError: as `read_metrics`; or two of the files scored the same weights on the same task, which
            would make the spread over seeds look smaller than it is.
    """
    there = [path for path in sorted(set(paths)) if path.is_file()]
    files = [(path, read_metrics(path, profile=profile)) for path in there]
    seen: dict[tuple[str, str], Path] = {}
    found: dict[str, list[tuple[Metrics, Path]]] = {}
    for path, one in files:
        key = one.weights, one.task
        if key in seen:
            raise RegroupError(
                f"{path}: checkpoint: the same weights as in {seen[key]}; "
                "one run cannot count as two seeds, so list only one of them"
            )
        seen[key] = path
        found.setdefault(one.weights, []).append((one, path.parent))
    return tuple(
        Run(weights, tuple(one for one, _ in some), tuple(folder for _, folder in some))
        for weights, some in found.items()
    )


@dataclass(frozen=True)
class Score:
    """A metric over `runs` runs: the mean, and for several the sample standard deviation."""

    mean: float
    std: float | None = None
    runs: int = 1


def rounded(value: float) -> Decimal:
    """A percentage to two decimals, half to even."""
    return Decimal(repr(value)).quantize(Decimal("0.01"), ROUND_HALF_EVEN)


def score(runs: Sequence[Run], column: Column) -> Score | None:
    """Mean and spread of the runs that have a value in `column`; None where none has."""
    values = [found.value for run in runs if (found := run.at(column)) is not None]
    if not values:
        return None
    # fmean and stdev are exactly rounded, so the order of the runs does not matter
    return Score(
        mean=statistics.fmean(values),
        std=statistics.stdev(values) if len(values) > 1 else None,
        runs=len(values),
    )


def chance(value: Value) -> float | None:
    """What a random answer scores in the place of a value, where its task says so."""
    told = value.scores.details.get("chance")
    found = told.get(value.name) if isinstance(told, dict) else None
    return float(found) if isinstance(found, int | float) else None


def protocol_name(value: Value) -> str | None:
    """The name of the protocol that made a value, where the metrics file gives one."""
    name = value.scores.protocol.get("name")
    return str(name) if name else None
