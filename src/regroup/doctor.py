"""What a profile needs and whether this machine has it, looked up before anything starts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regroup.errors import RegroupError
from regroup.params import Params
from regroup.places import place_faults
from regroup.sources.download import ARCHIVES, megabytes, missing_artefacts
from regroup.sources.fetch import download_folder
from regroup.sources.listing import list_entries
from regroup.sources.local import find_local
from regroup.sources.manifest import MANIFEST, list_files, read_manifest
from regroup.sources.settings import Artefact, SourceParams
from regroup.sources.weights import find_weights

State = Literal["ok", "to get", "note", "missing"]

PACKAGES = (
    *("torch", "numpy", "pyarrow", "nltk", "onedl-mmsegmentation", "requests"),
    *("dvc", "snakemake", "mlflow"),
)
"""What the stages and both engines cannot do without."""

_MINI_GB = 0.3
"""A whole run of drawn data: raw files, shards, runs and DVC's copies of them."""

_CHECKPOINT_GB = 0.23
"""A checkpoint of the published size."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    `ok`; `to get`: a stage will draw or fetch it; `note`: worth knowing; `missing`: a run cannot start.
    """

    area: str
    item: str
    state: State
    detail: str


@dataclass(frozen=True)
class Need:
    """Gigabytes, about, that will be written below a folder."""

    folder: Path
    gigabytes: float
    what: str


def examine(params: Params, *, runs: int) -> list[Finding]:
    """Look at tools, graphics cards, data, weights and disks.

    Args:
        params: the profile.
        runs: how many it has, for the disk.
    """
    findings = [*tools(), *_project(params), *processors(params)]
    needs = [Need(Path(), _CHECKPOINT_GB * 2 * runs, "runs and their copies in DVC's cache")]
    if all(source.kind == "mini" for source in params.sources.values()):
        needs = [Need(Path(), _MINI_GB, "a whole run")]
    for name, source in params.sources.items():
        finding, source_needs = _source(name, source, params)
        findings.append(finding)
        needs += source_needs
    weights, weight_needs = _weights(params)
    findings += weights
    needs += weight_needs
    findings += _used_files(params)
    return findings + list(disks(needs))


def tools() -> Iterator[Finding]:
    """Python, the packages everything rests on (beside the versions that were tested), and git."""
    yield Finding("tools", "python", "ok", platform.python_version())
    tested = _tested()
    for name in PACKAGES:
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding("tools", name, "missing", "not installed; `make env` installs everything")
            continue
        other = name in tested and version.partition("+")[0] != tested[name]
        yield Finding(
            "tools",
            name,
            "note" if other else "ok",
            f"{version}; tested with {tested[name]}" if other else version,
        )
    yield _dvc_command()
    git = shutil.which("git")
    yield Finding("tools", "git", "ok" if git else "missing", git or "not on PATH; install git")


def _project(params: Params) -> Iterator[Finding]:
    """Whether DVC can work in this folder."""
    faults = list(place_faults(params.name))
    for fault in faults:
        yield Finding("project", fault.place, "missing", fault.detail)
    if not faults:
        yield Finding("project", "folders", "ok", "no links among them")


def _dvc_command() -> Finding:
    """Whether `dvc` is this package's, which a kill does not hurt, or DVC's own script."""
    found = shutil.which("dvc")
    if found is None:
        return Finding("tools", "dvc command", "missing", "not on PATH; activate the environment")
    if b"regroup.safe_dvc" in Path(found).read_bytes():
        return Finding("tools", "dvc command", "ok", found)
    detail = (
        f"{found} is DVC's own, which a kill can leave blocked (docs/dvc.md); `rm .venv/.ready && make env` "
        "puts ours there"
    )
    return Finding("tools", "dvc command", "note", detail)


def _tested() -> dict[str, str]:
    """The pinned versions, where the file that pins them is here."""
    lock = Path("requirements.lock")
    lines = lock.read_text().splitlines() if lock.is_file() else []
    pins = (line.partition("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name: version for name, _, version in pins}


def processors(params: Params) -> Iterator[Finding]:
    """Cores and graphics cards, beside what the stages ask for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max((stage.threads for stage in params.resources.values()), default=1)
    detail = f"{cores}" if cores >= threads else f"{cores}; a stage is given {threads} threads"
    yield Finding("machine", "cores", "ok" if cores >= threads else "note", detail)
    cards = graphics_cards()
    wanted = [name for name, stage in params.resources.items() if stage.gpus]
    if cards:
        yield Finding("machine", "gpu", "ok", "; ".join(cards))
    elif wanted:
        yield Finding(
            "machine",
            "gpu",
            "note",
            f"none seen, and {', '.join(wanted)} ask for one: on a cluster their jobs get it, here they would"
            " run on the processor",
        )
    else:
        yield Finding("machine", "gpu", "ok", "none seen; this profile needs none")


def graphics_cards() -> list[str]:
    """Name and memory of each CUDA device that torch sees."""
    if "torch" not in sys.modules and importlib.util.find_spec("torch") is None:
        return []
    import torch

    cards = [torch.cuda.get_device_properties(k) for k in range(torch.cuda.device_count())]
    return [f"{card.name}, {card.total_memory / 1e9:.0f} GB" for card in cards]


def _source(name: str, source: SourceParams, params: Params) -> tuple[Finding, list[Need]]:
    raw = params.layout.raw(name)
    if source.kind == "mini":
        if (raw / MANIFEST).is_file() and (manifest := read_manifest(raw)).kind == "mini":
            return Finding("data", name, "ok", f"drawn, {_size(manifest.bytes)} in {raw}"), []
        return Finding("data", name, "to get", "drawn by the stage `source`, in seconds"), []
    folder = source.root if source.kind == "local" else download_folder(name, source.root)
    if source.kind == "download" and folder is not None and (missing := missing_artefacts(name, folder)):
        return _to_download(name, source, missing, folder)
    try:
        folder, parts = find_local(name, folder, kind=source.kind)
        files = list_entries(folder, parts)
    except RegroupError as error:
        return Finding("data", name, "missing", str(error)), []
    # shards hold every training image's bytes once more, and DVC's cache the shards
    images = sum(file.size for file in files if file.path.startswith("train2017/"))
    done = params.layout.shards.is_dir()
    needs = [] if done or not images else [_shards(images / 1e9)]
    return Finding("data", name, "ok", f"{_size(sum(file.size for file in files))} in {folder}"), needs


def _to_download(
    name: str, source: SourceParams, missing: Mapping[str, Artefact], folder: Path
) -> tuple[Finding, list[Need]]:
    packed, unpacked = megabytes(missing)
    needs = [Need(folder, (packed + unpacked) / 1000, f"{name}: archives and what is in them")]
    if "coco-train2017" in missing:
        needs.append(_shards((missing["coco-train2017"].megabytes or 0) / 1000))
    if source.url is not None and "://" not in source.url:
        here = Path(source.url).expanduser()
        if gone := [one.file for one in missing.values() if not (here / one.file).is_file()]:
            detail = f"sources.{name}.url: {here} has no {', '.join(gone)}"
            return Finding("data", name, "missing", detail), needs
        return Finding("data", name, "to get", f"unpacked from {here} to {folder}"), needs
    came = sum(
        part.stat().st_size
        for one in missing.values()
        for part in (folder / ARCHIVES / one.file, folder / ARCHIVES / f"{one.file}.part")
        if part.is_file()
    )
    unknown = [one.file for one in missing.values() if one.megabytes is None]
    more = f" and {', '.join(unknown)} (size unknown)" if unknown else ""
    part = f"; {_size(came)} of it came before" if came else ""
    return Finding("data", name, "to get", f"{_size(packed * 1e6)}{more} to {folder}{part}"), needs


def _shards(gigabytes: float) -> Need:
    return Need(Path(), 2 * gigabytes, "caption shards and their copy in DVC's cache")


def _weights(params: Params) -> tuple[list[Finding], list[Need]]:
    findings, gigabytes = [], 0.0
    folder = download_folder("weights", params.weights.root)
    for name, artefact in find_weights(params.weights.artefacts).items():
        places = (params.layout.weights / artefact.file, folder / artefact.file)
        found = next((path for path in places if path.is_file()), None)
        if found is not None:
            findings.append(Finding("weights", name, "ok", f"{_size(found.stat().st_size)} in {found}"))
        else:
            size = (artefact.megabytes or 0) * 1e6
            findings.append(Finding("weights", name, "to get", f"{_size(size)} to {folder}"))
            gigabytes += size / 1e9
    # they are copied from there to data/NAME/weights, and from there to DVC's cache
    return findings, [Need(folder, 3 * gigabytes, "weights and their copies")] if gigabytes else []


def _used_files(params: Params) -> Iterator[Finding]:
    """Files that sections of the profile point at."""
    checkpoint, nouns = params.checkpoint, params.nouns
    if checkpoint.kind == "random":
        yield Finding("files", "checkpoint", "ok", "random weights: results mean nothing")
    else:
        yield _file(params, "checkpoint.path", checkpoint.path)
    if params.dino.kind == "file":
        yield _file(params, "dino.path", params.dino.path)
    if nouns.tagger == "nltk":
        if nouns.tagger_path is None:
            yield Finding(
                "files", "nouns.tagger_path", "missing", "not set; the tagger `nltk` needs its weights"
            )
        else:
            yield _file(params, "nouns.tagger_path", nouns.tagger_path)
    for key, dataset in params.datasets.items():
        if dataset.source not in params.sources:
            name = f"evaluate.segmentation.datasets.{key}"
            yield Finding("files", name, "missing", f"its source {dataset.source} is not under `sources`")


def _file(params: Params, key: str, path: Path) -> Finding:
    if path.exists():
        size = sum(file.stat().st_size for file in list_files(path.parent, [path.name]))
        return Finding("files", key, "ok", f"{_size(size)} in {path}")
    fetched = {params.layout.weights / one.file for one in find_weights(params.weights.artefacts).values()}
    if path in fetched:
        return Finding("files", key, "to get", f"{path} comes with the stage `weights`")
    return Finding("files", key, "missing", f"no such file {path}; see `weights` for what can be fetched")


def disks(needs: list[Need]) -> Iterator[Finding]:
    """For each disk: what will be written to it, and whether that fits."""
    on: dict[int, list[Need]] = {}
    for need in needs:
        on.setdefault(_existing(need.folder).stat().st_dev, []).append(need)
    for group in on.values():
        place = _existing(group[0].folder).resolve()
        needed = sum(need.gigabytes for need in group)
        free = shutil.disk_usage(place).free / 1e9
        parts = "; ".join(f"{need.gigabytes:,.1f} {need.what}" for need in group if need.gigabytes >= 0.05)
        state: State = "ok" if free > needed else "missing"
        yield Finding(
            "disk", str(place), state, f"about {needed:,.1f} GB needed, {free:,.1f} GB free ({parts})"
        )


def _existing(folder: Path) -> Path:
    folder = folder.expanduser().absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e8 else f"{count / 1e6:,.1f} MB"
