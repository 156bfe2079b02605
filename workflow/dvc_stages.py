"""The stages of a DVC pipeline as data for the Snakefile.

DVC owns the state (what is stale, what the outputs hash to); Snakemake only decides when and where a stage
runs. The two meet in stamp files: a stamp stands for "this stage was up to date when DVC was asked".
"""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from regroup.lease import LeaseBusyError, acquire
from regroup.profile import make_on_demand
from regroup.safe_dvc.graph import ALWAYS, ResolvedStage, read_graph

STATE = Path(".snakemake/dvc")
SHARED = ".shared"
"""Folder of the stamps, and part of the names of the rules, of stages that belong to another pipeline."""
RUN_VARIABLE = "REGROUP_PIPELINE_RUN"
DEFAULTS: Mapping[str, int] = {"threads": 1, "mem_mb": 2000, "runtime": 30, "gpus": 0}

# one time for all stamps set while parsing: none of them is newer than another, so none causes a rerun,
# and every stamp that a job touches afterwards is newer than them
PARSED = 946_684_800  # 2000-01-01, in seconds


@dataclass(frozen=True)
class StageRule:
    """One stage as Snakemake sees it: a rule."""

    rule: str
    """Name of the rule: the stage's, with `@` and `-` as underscores; behind `shared` and its folder, if it
    is another pipeline's."""
    target: str
    """What `dvc repro` takes, e.g. `finetune@ge` or `full/dvc.yaml:finetune@ge`."""
    stamp: str
    log: str
    inputs: tuple[str, ...]
    """Stamps of the stages whose outputs it reads."""
    threads: int
    resources: Mapping[str, int | str]
    """mem_mb (megabytes), runtime (minutes), gpus (count); if there are GPUs, gres and nodes for Slurm: a
    stage starts its own processes, one a GPU, so they have to be on one node."""


def read_stages(pipeline: str, *, set_stamps: bool) -> tuple[StageRule, ...]:
    """The stages of the dvc.yaml at `pipeline`, templates resolved, in the order of their definition.

    Those of a study come behind the ones that it depends on and that another dvc.yaml has, its profile's.
    A frozen stage has no inputs, as in DVC: its command is never run, its outputs are only looked at.

    Args:
        pipeline: a dvc.yaml, relative to the working directory.
        set_stamps: ask DVC which stages are up to date; those get a stamp, the stamps of the others go.

    Raises:
        RegroupError: the file is missing or invalid, or another run is writing an output.
        ValueError: a stage's `meta.resources` has a key or a value that means nothing, or two stages would
            get the same rule name.
    """
    stages = read_graph(make_on_demand(Path(pipeline)), status=set_stamps)
    # a run of each pipeline has stamps of its own, also for what it shares with others: they go side by side
    places = {stage.target: _place(stage, Path(pipeline).parent) for stage in stages}
    stamps = {target: f"{place}.stamp" for target, place in places.items()}
    rules = tuple(_rule(stage, places[stage.target], stamps) for stage in stages)
    if set_stamps:
        stale = {stamps[stage.target] for stage in stages if _is_stale(stage)}
        stale = _behind(rules, stale)
        for rule in rules:
            _set_stamp(Path(rule.stamp), stale=rule.stamp in stale)
    names = [rule.rule for rule in rules]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{pipeline}: more than one stage would be the rule {twice[0]}; rename one of them")
    return rules


def chosen_pipeline(config: Mapping[str, object]) -> str:
    """The dvc.yaml that `--config pipeline=...` names, or the default profile's.

    Raises:
        ValueError: another key is given; it is a slip, for which the default profile would run instead.
    """
    if unknown := sorted(set(config) - {"pipeline"}):
        raise ValueError(
            f"--config {unknown[0]}: no such setting; `pipeline=FOLDER/dvc.yaml` is the only one"
        )
    return str(config.get("pipeline", "dvc.yaml"))


def name_run() -> None:
    """Give the run an identity that its stages, and the jobs of a cluster, find in their environment."""
    os.environ.setdefault(RUN_VARIABLE, uuid.uuid4().hex[:12])


def wait_for_turn(pipeline: str) -> None:
    """Hold the turn of running this pipeline's stages, until this process ends.

    If another Snakemake had it, this one plans anew from the start: there may be nothing left to do.
    """
    turn = ExitStack()
    path = (STATE / pipeline).with_suffix(".turn")
    try:
        turn.enter_context(acquire(path, wait=0))
    except LeaseBusyError:
        with acquire(path):
            pass
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    atexit.register(turn.close)


def publish_runs() -> None:
    """Bring MLflow up to date, if a stage of this project has been tracked since the last time."""
    if Path(".state/tracking").exists():
        subprocess.run([sys.executable, "-m", "regroup.tracking", "publish"], check=False)


def _rule(stage: ResolvedStage, place: Path, stamps: Mapping[str, str]) -> StageRule:
    resources = _resources(stage)
    of = "/".join(place.parts[place.parts.index(SHARED) :]) if SHARED in place.parts else stage.name
    return StageRule(
        rule=re.sub(r"\W", "_", of.removeprefix(".")),
        target=stage.target,
        stamp=stamps[stage.target],
        log=f"{place}.log",
        inputs=tuple(sorted(stamps[target] for target in stage.reads)),
        threads=resources.pop("threads"),
        resources=resources | ({"gres": f"gpu:{resources['gpus']}", "nodes": 1} if resources["gpus"] else {}),
    )


def _place(stage: ResolvedStage, folder: Path) -> Path:
    """Where the stamp and the log of a stage lie in a run of the pipeline in `folder`, without suffix."""
    own = stage.folder == folder
    return STATE / folder / stage.name if own else STATE / folder / SHARED / stage.folder / stage.name


def _resources(stage: ResolvedStage) -> dict[str, int]:
    given = stage.resources
    if unknown := sorted(set(given) - set(DEFAULTS)):
        known = ", ".join(DEFAULTS)
        raise ValueError(f"{stage.target}: meta.resources.{unknown[0]}: not one of {known}")
    for key, value in given.items():
        least = 0 if key == "gpus" else 1
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            name = f"{stage.target}: meta.resources.{key}"
            raise ValueError(f"{name}: {value!r} is not a whole number of {least} or more")
    return {**DEFAULTS, **given}


def _behind(stages: Sequence[StageRule], stale: Set[str]) -> set[str]:
    """Stamps of stale stages and of all that read their outputs.

    Asked for one of the latter alone, Snakemake would not look further back than to its stamp.
    """
    found = set(stale)
    while more := {stage.stamp for stage in stages if found.intersection(stage.inputs)} - found:
        found |= more
    return found


def _is_stale(stage: ResolvedStage) -> bool:
    if stage.changes is None:
        return True  # another run is at it; the job will wait for that, and see what is left to do
    if not stage.always_changed:
        return bool(stage.changes)
    # else a run with nothing to do would start a job for every stage behind this one
    return stage.changes != (ALWAYS,) or not all(_still_holds(path) for path in _folders(stage))


def _folders(stage: ResolvedStage) -> list[Path]:
    """Outputs that hold a manifest and what it speaks of; not the copy that lies apart."""
    return [out.path for out in stage.outputs if out.path.is_dir()]


def _still_holds(output: Path) -> bool:
    """Whether the manifest of a folder outside DVC's sight still describes it."""
    from regroup.errors import RegroupError
    from regroup.sources.manifest import raw_root

    try:
        raw_root(output)
    except RegroupError:
        return False
    return True


def _set_stamp(stamp: Path, *, stale: bool) -> None:
    if stale:
        stamp.unlink(missing_ok=True)
    else:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()
        os.utime(stamp, (PARSED, PARSED))
