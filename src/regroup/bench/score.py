"""Scoring a checkpoint on the entries of a bench, one after another; what was scored before is kept."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regroup.bench.figure import task_figure
from regroup.bench.plan import Entry
from regroup.captions.index import INDEX
from regroup.errors import RegroupError, explain
from regroup.features import USAGE
from regroup.io import read_json, sha256, write_json
from regroup.metrics import METRICS, Metrics, read_metrics
from regroup.model.weights import find_weights
from regroup.scoring.code import code_of
from regroup.scoring.results import write_result
from regroup.seeds import FILE as SEEDS
from regroup.sources.layouts import present_parts
from regroup.sources.listing import list_entries
from regroup.sources.manifest import read_manifest
from regroup.tasks import Work

if TYPE_CHECKING:
    from regroup.model import Backbone
    from regroup.params import Params

RECORD = "evaluation.json"
"""Beside the metrics: what they depend on, and digests of the files."""


@dataclass(frozen=True)
class Done:
    """What an entry came to.

    Attributes:
        entry: which.
        metrics: what was scored; None where it failed.
        fault: why it failed.
        seconds: that it took.
        kept: whether it had been scored before and was only read.
        figures: pictures that lie beside the metrics.
    """

    entry: Entry
    metrics: Metrics | None = None
    fault: str | None = None
    seconds: float = 0.0
    kept: bool = False
    figures: tuple[Path, ...] = ()


Written = Callable[[Path], AbstractContextManager[Path]]
"""Gives an empty folder for the results of the folder that is named; its files are moved there at the end."""


def score(
    model: Backbone,
    checkpoint: Path,
    entries: Sequence[Entry],
    folder: Path,
    written: Written,
    *,
    name: str,
    given: Mapping[str, Path],
    progress: bool,
) -> Iterator[Done]:
    """Run the entries that can be run; a fault that a user can mend ends one of them, not the others.

    Args:
        model: the checkpoint's.
        checkpoint: where it lies.
        entries: with their roots.
        folder: an entry's results go into the one below it that is called so.
        written: how they get there.
        name: of the checkpoint, in the files.
        given: folders of sources that are none of the profile's.
        progress: whether tasks show bars.
    """
    weights = sha256(find_weights(checkpoint))
    for entry in entries:
        if entry.missing is not None:
            yield Done(entry, fault=entry.missing)
            continue
        place, started = folder / entry.name, time.perf_counter()
        try:
            shards = _trained_on(checkpoint, entry.params)
            key = _key(entry, weights, name, given, shards)
            if (metrics := _kept(place, key, entry.params.name)) is not None:
                yield Done(entry, metrics, kept=True, figures=_figures(place))
                continue
            layout = entry.params.layout
            work = Work(
                entry.roots,
                progress=progress,
                text_cache=layout.text_cache,
                token_cache=layout.token_cache,
                features=layout.features,
                trained_on=shards,
            )
            result = entry.evaluation.run(model, work)
            with written(place) as new:
                metrics = write_result(
                    result,
                    entry.evaluation,
                    new,
                    variant=name,
                    profile=entry.params.name,
                    checkpoint=checkpoint,
                )
                drawn = entry.params.drawn and not entry.roots.keys() <= given.keys()
                figure = task_figure(entry.evaluation.task, metrics, profile=entry.params.data, drawn=drawn)
                if figure is not None:
                    figure.save(new)
                files = {file.name: _digest(file) for file in sorted(new.iterdir())}
                write_json(new / RECORD, {**key, "files": files})
        except Exception as error:
            if (reason := explain(error)) is None:
                raise
            yield Done(entry, fault=reason, seconds=time.perf_counter() - started)
        else:
            seconds = time.perf_counter() - started
            yield Done(entry, metrics, seconds=seconds, figures=_figures(place))


def usage() -> dict[str, tuple[int, int]]:
    """Pictures and texts whose features this process has computed, and those that it read, so far."""
    return {what: (one.encoded, one.read) for what, one in USAGE.items()}


def _trained_on(checkpoint: Path, params: Params) -> Path | None:
    """The shards of the profile where the checkpoint is a run on them; else what it has seen is not known."""
    runs, place = Path("runs").resolve(), checkpoint.resolve()
    folders = [place, *place.parents]
    trained = any((folder / SEEDS).is_file() for folder in folders if runs in folder.parents)
    ours = any(
        folder.parent == runs and (folder.name == params.data or folder.name.startswith(f"{params.data}-"))
        for folder in folders
    )
    shards = params.layout.shards
    return shards if trained and ours and (shards / INDEX).is_file() else None


def _key(
    entry: Entry, weights: str, name: str, given: Mapping[str, Path], shards: Path | None
) -> dict[str, Any]:
    """What an entry's scores depend on; equal ones need not be scored again."""
    one = entry.evaluation
    return {
        "checkpoint": {"name": name, "sha256": weights},
        "task": one.task,
        "options": one.options.model_dump(mode="json"),
        "data": {
            source: _listed(source, root) if source in given else _manifest(entry, source)
            for source, root in entry.roots.items()
        },
        "code": code_of(one.task, one.files),
        "trained_on": None if shards is None else sha256(shards / INDEX),
    }


def _manifest(entry: Entry, source: str) -> str:
    return read_manifest(entry.params.layout.raw(source)).digest


def _listed(source: str, root: Path) -> str:
    """A folder without a manifest: its files' paths, sizes and times."""
    digest = hashlib.sha256(str(root.resolve()).encode(errors="surrogateescape"))
    for one in list_entries(root, present_parts(source, root)):
        digest.update(f"{one.path}\0{one.size}\0{one.modified}\n".encode(errors="surrogateescape"))
    return f"listing {digest.hexdigest()}"


def _kept(folder: Path, key: Mapping[str, Any], profile: str) -> Metrics | None:
    """What was scored before on the same; None where anything differs, or a file is not as it was written."""
    try:
        record = read_json(folder / RECORD)
        if not isinstance(record, dict) or not isinstance(files := record.pop("files", None), dict):
            return None
        if record != key or any(_digest(folder / name) != digest for name, digest in files.items()):
            return None
        return read_metrics(folder / METRICS, profile=profile)
    except (RegroupError, OSError):
        return None


def _figures(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(folder.glob("*.png")))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
