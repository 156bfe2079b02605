"""The stages of dvc.yaml files as DVC itself resolves them, for the Snakefile and the page of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.index import Index
from dvc.scm import SCM
from dvc.stage import PipelineStage

from regroup.errors import RegroupError
from regroup.safe_dvc import install
from regroup.safe_dvc.rwlock import BusyError

ALWAYS = "always changed"
"""What DVC says of a stage that looks for itself whether there is anything to do."""


@dataclass(frozen=True)
class ResolvedOutput:
    """What a stage makes: its absolute path, and its MD5 and bytes where dvc.lock has them."""

    path: Path
    md5: str | None
    size: int | None


@dataclass(frozen=True)
class ResolvedStage:
    """One stage, templates filled in.

    Attributes:
        name: e.g. `finetune@ge`; without `@` for a stage that has no items.
        target: what `dvc repro` takes, e.g. `full/dvc.yaml:finetune@ge`.
        folder: of its dvc.yaml, relative to the working directory.
        about: its `desc`.
        command: what it runs.
        frozen: DVC does not run it by itself, and looks at nothing that it reads.
        always_changed: it runs every time.
        resources: `meta.resources`, unchecked.
        reads: targets of the stages whose outputs it reads.
        outputs: what it makes.
        changes: what DVC says has changed since it ran; None where it was not asked, or another run is at it.
    """

    name: str
    target: str
    folder: Path
    about: str
    command: str
    frozen: bool
    always_changed: bool
    resources: Mapping[str, Any]
    reads: tuple[str, ...]
    outputs: tuple[ResolvedOutput, ...]
    changes: tuple[str, ...] | None


def read_graph(
    pipelines: Sequence[Path], *, root: Path = Path(), status: bool = False
) -> tuple[ResolvedStage, ...]:
    """The stages of some dvc.yaml files, in the order of their definition.

    Args:
        pipelines: dvc.yaml files of one project; of all but the last, only stages that those of the last
            depend on, at once or through others.
        root: the project's root.
        status: ask DVC as well what has changed; waits for the lock on the project, since a job of another
            run may be in the middle of writing dvc.lock.

    Raises:
        RegroupError: a file is missing or invalid, or, with `status`, this is no DVC project; in DVC's words.
    """
    install()
    try:
        if status:
            repo = Repo(str(root), _wait_for_lock=True)
        else:  # templates alone need neither git nor `dvc init`: stages may be run by hand without
            repo = Repo(str(root), uninitialized=True, scm=SCM(str(root), no_scm=True))
        with lock_repo(repo) if status else nullcontext():
            files = [Index.from_file(repo, str(path)).stages for path in pipelines]
            graph = Index(repo, stages=[stage for stages in files for stage in stages]).graph
            upstream = {node: list(graph.successors(node)) for node in graph}
            needed = _needed(files[-1], upstream)
            return tuple(_stage(node, upstream[node], status=status) for node in graph if node in needed)
    except DvcException as error:
        raise RegroupError(f"{', '.join(map(str, pipelines))}: {error}") from None


def _needed(
    own: Sequence[PipelineStage], upstream: Mapping[PipelineStage, Sequence[PipelineStage]]
) -> set[PipelineStage]:
    """Some stages, and all whose outputs they depend on."""
    found, waiting = set(own), list(own)
    while waiting:
        new = [other for other in upstream[waiting.pop()] if other not in found]
        found.update(new)
        waiting += new
    return found


def _stage(stage: PipelineStage, upstream: Sequence[PipelineStage], *, status: bool) -> ResolvedStage:
    return ResolvedStage(
        name=stage.name,
        target=stage.addressing,
        folder=Path(stage.relpath).parent,
        about=stage.desc or "",
        command=stage.cmd if isinstance(stage.cmd, str) else "\n".join(stage.cmd),
        frozen=stage.frozen,
        always_changed=stage.always_changed,
        resources=(stage.meta or {}).get("resources", {}),
        reads=() if stage.frozen else tuple(other.addressing for other in upstream),
        outputs=tuple(
            ResolvedOutput(Path(out.fs_path), out.hash_info.value, out.meta.size) for out in stage.outs
        ),
        changes=_changes(stage) if status else None,
    )


def _changes(stage: PipelineStage) -> tuple[str, ...] | None:
    try:
        return tuple(line for lines in stage.status().values() for line in lines)
    except BusyError:
        return None
