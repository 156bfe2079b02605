"""What is true of one run on one machine: times, code, versions, digests. It makes the page `index.html`.

None of it may enter what DVC tracks, or no two runs would agree: the page without it is an output of the
stage `page`, and `index.html` is made from that output and from these facts, and belongs to nobody's lock.
The drawing of the pipeline is added here too, because DVC lets no stage depend on dvc.yaml.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from regroup.errors import RegroupError
from regroup.io import write_text
from regroup.journal import LastRun, git_revision, read_last_runs
from regroup.journal.locked import LockedOutput
from regroup.params import Params
from regroup.report.page.build import FACTS, environment
from regroup.report.page.pipeline import BOX, Drawing, StageBox, draw
from regroup.safe_dvc.graph import ResolvedStage, read_graph

PACKAGES = (
    "regroup-ovs",
    "torch",
    "numpy",
    "dvc",
    "snakemake",
    "mlflow",
    "onedl-mmsegmentation",
    "matplotlib",
)


@dataclass(frozen=True)
class ShownRun:
    """A stage's last run, with its start in words (UTC)."""

    name: str
    start: int
    started: str
    seconds: float
    status: str
    revision: str


@dataclass(frozen=True)
class StageTimes:
    """The runs of one stage's items, in seconds together and at most."""

    stage: str
    count: int
    seconds: float
    longest: float


@dataclass(frozen=True)
class Facts:
    """All of it; `total` in seconds of work, whatever ran side by side."""

    revision: str
    written: str
    machine: str
    versions: Mapping[str, str]
    runs: Sequence[ShownRun]
    groups: Sequence[StageTimes]
    total: float
    pipeline: str
    stages: Sequence[StageBox]
    drawing: Drawing
    lock: str
    outputs: Sequence[LockedOutput]


def write_index(params: Params, root: Path = Path()) -> Path:
    """Write `index.html` of a profile from its `page.html` and the facts; return its path.

    Raises:
        RegroupError: the stage `page` has not run yet, or dvc.lock cannot be read.
    """
    page, index = root / params.layout.page, root / params.layout.index
    if not page.is_file():
        raise RegroupError(f"{page}: no page yet; run `dvc repro`, whose last stage writes it")
    before, mark, after = page.read_text(encoding="utf-8").partition(FACTS)
    if not mark:
        raise RegroupError(f"{page}: written by other code; run the stage `page` again")
    templates = environment()
    templates.filters["duration"] = duration
    facts = templates.get_template("facts.html").render(facts=gather(params, root), box=BOX)
    write_text(index, f"{before}{facts}{after}")
    return index


def gather(params: Params, root: Path = Path()) -> Facts:
    """Collect the facts of a profile.

    Raises:
        RegroupError: dvc.lock or dvc.yaml cannot be read.
    """
    runs = read_last_runs(root, params.name)
    lock = params.params_file.with_name("dvc.lock")
    pipeline = params.params_file.with_name("dvc.yaml")
    resolved = _read_stages(root, pipeline)
    stages = _boxes(resolved)
    groups = _groups(runs)
    return Facts(
        revision=git_revision(root),
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        versions=_versions(),
        runs=[_shown(run) for run in runs],
        groups=groups,
        total=sum(group.seconds for group in groups),
        pipeline=pipeline.as_posix(),
        stages=stages,
        drawing=draw(stages),
        lock=lock.as_posix(),
        outputs=_outputs(resolved, root, pipeline),
    )


def duration(seconds: float) -> str:
    """Seconds in words that fit a table."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _read_stages(root: Path, pipeline: Path) -> tuple[ResolvedStage, ...]:
    """The profile's stages, behind those whose outputs are shipped."""
    shipped = root / "pretrain" / "dvc.yaml"
    return read_graph([*([shipped] if shipped.is_file() else []), root / pipeline], root=root)


def _boxes(stages: Sequence[ResolvedStage]) -> tuple[StageBox, ...]:
    """What is drawn: what is shipped only where the profile reads it."""
    found = collapse(stages)
    read = {name for stage in found for name in stage.reads}
    return tuple(stage for stage in found if not stage.frozen or stage.name in read)


def collapse(stages: Sequence[ResolvedStage]) -> tuple[StageBox, ...]:
    """One box for all items of a stage, in the order of definition."""
    items: dict[str, list[ResolvedStage]] = {}
    for stage in stages:
        items.setdefault(_box(stage.name), []).append(stage)
    box_of = {stage.target: _box(stage.name) for stage in stages}
    boxes = []
    for name, group in items.items():
        read = {box_of[target] for stage in group for target in stage.reads} - {name}
        first = group[0]
        boxes.append(
            StageBox(
                name,
                about=first.about,
                command=first.command.replace(f"'{_item(first.name)}'", "'ITEM'"),
                count=len(group) if _item(first.name) else None,
                reads=tuple(other for other in items if other in read),
                frozen=first.frozen,
            )
        )
    return tuple(boxes)


def _box(name: str) -> str:
    return name.partition("@")[0]


def _item(name: str) -> str:
    return name.partition("@")[2]


def _outputs(stages: Sequence[ResolvedStage], root: Path, pipeline: Path) -> list[LockedOutput]:
    """The outputs of one dvc.yaml that are in its dvc.lock, by path."""
    folder = (root / pipeline).parent
    found = [
        LockedOutput(out.path.relative_to(root.absolute()).as_posix(), out.md5, out.size or 0)
        for stage in stages
        if stage.folder.absolute() == folder.absolute()
        for out in stage.outputs
        if out.md5 is not None
    ]
    return sorted(found, key=lambda out: out.path)


def _shown(run: LastRun) -> ShownRun:
    started = f"{datetime.fromtimestamp(run.start / 1000, UTC):%Y-%m-%d %H:%M:%S}"
    return ShownRun(run.name, run.start, started, run.seconds, run.status, run.revision)


def _groups(runs: Sequence[LastRun]) -> list[StageTimes]:
    by_stage: dict[str, list[float]] = {}
    for run in runs:
        by_stage.setdefault(run.stage, []).append(run.seconds)
    return [StageTimes(name, len(times), sum(times), max(times)) for name, times in by_stage.items()]


def _versions() -> dict[str, str]:
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
