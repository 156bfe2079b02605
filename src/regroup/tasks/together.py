"""Several tasks in one process: a checkpoint is loaded once, and pictures that they share are encoded once.

    zero_shot:
      task: together
      tasks:
        classification: {}
        retrieval: {limit: 1000}

An entry of `tasks` is what one of `evaluate` is. The metrics of a member come out as `<member>_<metric>`,
and so do its files: a table names `zero_shot/retrieval_image_r1/coco`. What one member's code or data
changes makes all run again: put together what is quick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, JsonValue, field_serializer, field_validator

from regroup.errors import RegroupError
from regroup.metrics import DatasetScores, Metric
from regroup.settings import Settings
from regroup.tasks import TASKS, Evaluation, Evaluations, TaskResult, Work

if TYPE_CHECKING:
    from regroup.model import Backbone

_OWN = ("chance", "name")
"""Keys of a data set's details and protocol beside those of the members."""


class Options(Settings):
    """The members, by name; the first one's main metric is the whole's."""

    tasks: Evaluations = Field(min_length=1)

    @field_validator("tasks")
    @classmethod
    def _one_level_of_names_of_their_own(cls, tasks: dict[str, Evaluation]) -> dict[str, Evaluation]:
        for name, one in tasks.items():
            if isinstance(one.options, Options):
                raise ValueError(f"{name}: a task of several tasks again; list its members here")
            if name in _OWN:
                raise ValueError(f"{name}: what is said of all members is called so; name it otherwise")
        return tasks

    @field_serializer("tasks")
    def _as_written(self, tasks: dict[str, Evaluation]) -> dict[str, Any]:
        return {
            name: {"task": one.task, **one.options.model_dump(mode="json")} for name, one in tasks.items()
        }


def sources(options: Options) -> Iterable[str]:
    """Those of all members."""
    return (source for one in options.tasks.values() for source in one.sources)


def files(options: Options) -> Iterable[Path]:
    """The members' modules, and what they depend on."""
    for one in options.tasks.values():
        yield from TASKS.files(one.task)
        yield from one.files


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Run the members one after another.

    Raises:
        RegroupError: as theirs; or `y_z` of a member `x` and `z` of one `x_y` would be one metric or file.
    """
    results = {name: one.run(model, work) for name, one in options.tasks.items()}
    for kind in ("metrics", "files"):
        named = Counter(f"{name}_{one}" for name, result in results.items() for one in getattr(result, kind))
        if twice := [name for name, count in named.items() if count > 1]:
            raise RegroupError(f"tasks: two members have {kind} called {twice[0]}; rename one of them")
    first, result = next(iter(results.items()))
    return TaskResult(
        main=f"{first}_{result.main}",
        metrics=dict(_metrics(results)),
        datasets=_datasets(results),
        files={
            f"{name}_{file}": content for name, one in results.items() for file, content in one.files.items()
        },
    )


def _metrics(results: Mapping[str, TaskResult]) -> Iterator[tuple[str, Metric]]:
    for member, result in results.items():
        for name, metric in result.metrics.items():
            yield f"{member}_{name}", Metric(title=f"{member} {metric.title}", unit=metric.unit)


def _datasets(results: Mapping[str, TaskResult]) -> dict[str, DatasetScores]:
    """Values of all members on each data set; what else they say of it, by member."""
    values: dict[str, dict[str, float]] = {}
    images: dict[str, int] = {}
    protocols: dict[str, dict[str, JsonValue]] = {}
    details: dict[str, dict[str, JsonValue]] = {}
    chance: dict[str, dict[str, JsonValue]] = {}
    for member, result in results.items():
        for dataset, scores in result.datasets.items():
            named = {f"{member}_{name}": value for name, value in scores.values.items()}
            values.setdefault(dataset, {}).update(named)
            images[dataset] = max(images.get(dataset, 0), scores.images)
            protocols.setdefault(dataset, {})[member] = {**scores.protocol, "images": scores.images}
            rest = dict(scores.details)
            if isinstance(random := rest.pop("chance", None), dict):  # by metric: tables look there
                chance.setdefault(dataset, {}).update(
                    {f"{member}_{name}": one for name, one in random.items()}
                )
            details.setdefault(dataset, {})[member] = rest
    return {
        dataset: DatasetScores(
            values=found,
            images=images[dataset],
            protocol={"name": " and ".join(protocols[dataset]), **protocols[dataset]},
            details={"chance": chance.get(dataset, {}), **details[dataset]},
        )
        for dataset, found in values.items()
    }
