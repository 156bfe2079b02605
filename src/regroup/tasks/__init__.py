"""Tasks: what checkpoints are scored on. Every module here whose name has no leading `_` is one.

A task is a module with

    class Options(Settings)          what `evaluate:` in params.yaml may say of it
    def sources(options)             the raw data it reads, by the names under `sources:` in params.yaml
    def run(model, options, work)    score a model: a `TaskResult`

and, where they mean something,

    def files(options)               further files that its result depends on, e.g. a list of class names
    def validating(options)          the options of one point of a run's validation curve; None: no curve

Its imports of torch and of whatever is heavy belong into the functions: a profile's parameters are read, with
the options of its tasks, where nothing is scored. Modules that it imports need not be declared anywhere: the
stage `tasks` writes the digest of all of them down (`regroup.scoring.code`), and `evaluate` depends on that.

The profile names what it evaluates, a mapping of names to options. `task:` says which module is meant and may
be left out where the name is the module's:

    evaluate:
      segmentation: {...}
      retrieval: {limit: 1000}
      retrieval_train: {task: retrieval, split: train, leak: mark}
      robustness: {like: segmentation, datasets: {voc: {limit: 50}}}

`like` names an entry whose options are taken over where the task has them too and this entry says nothing. Of
`datasets` those named here are taken, each with what is said here laid over it. So a study asks for more of
what a profile scores, at the profile's own sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from regroup.errors import RegroupError, shown
from regroup.metrics import DatasetScores, Metric
from regroup.plugins import NoOptions, Room
from regroup.settings import Settings, in_words

if TYPE_CHECKING:
    from regroup.model import Backbone

TASKS = Room("regroup.tasks", "task", ("sources", "run"))

_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")
_KINDS = {kind.__name__: kind for kind in (Metric, DatasetScores)}
"""What a task makes its result of."""


@dataclass(frozen=True)
class Work:
    """What a task may use beside the model and its options.

    Attributes:
        roots: where each source's raw data lies, with the layout of its own archive.
        progress: whether to show progress bars.
        text_cache: folder of class embeddings that may be kept and read; None: keep none.
        token_cache: folder of first-stage tokens, likewise.
        features: folder of features of pictures and texts, likewise; see `regroup.features`.
        trained_on: folder of the shards that the model was fine-tuned on, for tasks that refuse to score
            their images; None: what it has seen is not known.
    """

    roots: Mapping[str, Path]
    progress: bool = False
    text_cache: Path | None = None
    token_cache: Path | None = None
    features: Path | None = None
    trained_on: Path | None = None


@dataclass(frozen=True)
class TaskResult:
    """What a model scored.

    Attributes:
        main: the metric that stands for the task; it makes the validation curve.
        metrics: title and unit of each metric.
        datasets: values, by dataset.
        files: what else goes beside the metrics file, by name, e.g. a table of the items.
    """

    main: str
    metrics: Mapping[str, Metric]
    datasets: Mapping[str, DatasetScores]
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """One entry of `evaluate:`: a task with its options.

    Attributes:
        name: of the entry.
        task: the module.
        options: of the module's class `Options`.
    """

    name: str
    task: str
    options: Settings

    @property
    def file(self) -> Path:
        """Where the task's module begins, for messages."""
        return TASKS.file(self.task)

    @property
    def sources(self) -> tuple[str, ...]:
        """The raw data it reads, each source once."""
        found: Iterable[str] = TASKS.load(self.task).sources(self.options)
        return tuple(dict.fromkeys(found))

    @property
    def files(self) -> tuple[Path, ...]:
        """Files outside the module and what it imports that its result depends on."""
        named = getattr(TASKS.load(self.task), "files", None)
        return tuple(sorted(set(named(self.options)))) if named else ()

    @property
    def validating(self) -> Evaluation | None:
        """What a point of a validation curve is scored on; None where the task has no curve."""
        limited = getattr(TASKS.load(self.task), "validating", None)
        options = limited(self.options) if limited else None
        return None if options is None else Evaluation(self.name, self.task, options)

    def run(self, model: Backbone, work: Work) -> TaskResult:
        """Score a model, on the device that the options name; the model moves there.

        Raises:
            RegroupError: as the task; or what it gives is no result, a unit that does not exist, a value that
                is no number.
        """
        try:
            result: object = TASKS.load(self.task).run(model, self.options, work)
        except ValidationError as error:
            if (kind := _KINDS.get(error.title)) is None:
                raise  # not of what the task found
            raise in_words(error, kind, f"{self.file}: {error.title}") from error
        if not isinstance(result, TaskResult):
            raise RegroupError(f"{self.file}: `run` gave a {type(result).__name__}, not a `TaskResult`")
        return result


def evaluation(name: str, values: Mapping[str, Any], *, where: str | None = None) -> Evaluation:
    """One entry, checked.

    Args:
        name: of the entry.
        values: its options, and perhaps `task`.
        where: what messages begin with; None: the name.

    Raises:
        RegroupError: no such task, or an option that is unknown, ill-typed or out of range.
    """
    options = dict(values)
    task = TASKS.named(options.pop("task", name), f"{where or name}.task")
    return Evaluation(name, task, TASKS.options(task, options, where=where or name))


def _evaluations(value: Any) -> Any:
    """What params.yaml has under `evaluate`, each entry checked by its task."""
    if not isinstance(value, dict):
        return value  # pydantic says what is wrong
    found, faults = {}, []
    for name, given in value.items():
        entry = given
        if isinstance(given, dict) and "like" in given:
            try:
                entry = _like(str(name), given, value)
            except RegroupError as error:
                faults.append(str(error))
                continue
        if isinstance(entry, Evaluation):
            found[name] = entry
        elif not isinstance(name, str) or not _NAME.fullmatch(name):
            faults.append(f"{name}: a name here is lower-case letters and digits, then also _")
        elif not isinstance(entry, dict):
            faults.append(f"{name}: a mapping of options is wanted (got {entry!r})")
        else:
            try:
                found[name] = evaluation(name, entry)
            except RegroupError as error:
                # `name: key: what is wrong` as one dotted key
                faults += [
                    re.sub(rf"^{name}: (?=[\w.]+: )", f"{name}.", line) for line in str(error).split("\n")
                ]
    if faults:
        raise ValueError("; ".join(faults))
    return found


def _like(name: str, entry: Mapping[str, Any], among: Mapping[Any, Any]) -> dict[str, Any]:
    """An entry with what it takes over from the one that it is `like`."""
    own = dict(entry)
    other = own.pop("like")
    model = among.get(other) if isinstance(other, str) else None
    if not isinstance(model, dict) or "like" in model:
        known = ", ".join(
            str(key) for key, one in among.items() if isinstance(one, dict) and "like" not in one
        )
        raise RegroupError(f"{name}.like: {shown(other)} is no entry to take options from; there are {known}")
    task = TASKS.named(own.get("task", name), f"{name}.task")
    options: type[Settings] = getattr(TASKS.load(task), "Options", NoOptions)
    taken = {key: one for key, one in model.items() if key in options.model_fields and key not in own}
    named = own.get("datasets")
    if isinstance(named, dict) and isinstance(theirs := model.get("datasets"), dict):
        if unknown := [one for one in named if one not in theirs and "source" not in (named[one] or {})]:
            raise RegroupError(
                f"{name}.datasets.{unknown[0]}: {other} has no such data set ({', '.join(theirs)}); a new"
                " one has `source` and `protocol`"
            )
        own["datasets"] = {key: {**theirs.get(key, {}), **(some or {})} for key, some in named.items()}
    return {**taken, **own}


Evaluations = Annotated[dict[str, Evaluation], BeforeValidator(_evaluations), Field(min_length=1)]
"""`evaluate:` of params.yaml. A name has no hyphen, so that `<name>-<variant>` is one item and no other."""


def item_name(evaluation: str, variant: str) -> str:
    """The item of the stage `evaluate` that scores a variant, as DVC calls it."""
    return f"{evaluation}-{variant}"


def split_item(item: str) -> tuple[str, str]:
    """The evaluation and the variant that an item of the stage `evaluate` names."""
    evaluation, _, variant = item.partition("-")
    return evaluation, variant
