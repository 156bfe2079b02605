"""A variant's runs, seed after seed: each as a run of that seed alone, what they share computed once.

What a finished run leaves is kept beside its state until all are: the variant's outputs are written together,
since DVC removes them before it starts a stage again. So a kill costs what one of a single run does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from regroup.backbones import ROOM as BACKBONES
from regroup.heads import build_heads, save_heads
from regroup.io import atomic_path, read_sealed, sha256, write_sealed
from regroup.model import save_checkpoint
from regroup.model.dino import DinoKeys
from regroup.seeds import seed_folder, write_seeds
from regroup.training.checkpoint import start_model
from regroup.training.data import CaptionData
from regroup.training.finetune import finetune, fingerprint_of
from regroup.training.parallel import is_first, wait_for_all
from regroup.training.plan import Plan
from regroup.training.progress import Curve
from regroup.training.settings import CheckpointParams, FinetuneParams
from regroup.training.snapshots import FOLDER
from regroup.training.state import FILE, Claim, forget
from regroup.training.texts import KeptTexts
from regroup.variants import Variant

FINISHED = "finished"
_RECORD = "finished.json"

Observe = Callable[[int, int, Mapping[str, float]], None]
"""Takes a seed, a step and its metrics."""


@dataclass(frozen=True)
class FinishedRun:
    """The run of one seed: the folder with its checkpoint and snapshots, and its curve."""

    seed: int
    folder: Path
    curve: Curve


def finetune_seeds(
    data: CaptionData,
    variant: Variant,
    settings: FinetuneParams,
    checkpoint: CheckpointParams,
    plan: Plan,
    *,
    state: Path,
    inputs_digest: str,
    claim: Claim,
    device: torch.device | str = "cpu",
    dino: DinoKeys | None = None,
    observe: Observe = lambda seed, step, row: None,
    progress: bool = True,
) -> list[FinishedRun]:
    """Train a variant with each of its seeds; every process of a job calls this at the same time.

    The captions, the decoded images and the features of a frozen text tower are shared. Views of images are
    drawn from the seed, so their first stages are not.

    Args:
        data: of the variant's first seed.
        variant: what is trained.
        settings: the profile's scale.
        checkpoint: what each run starts from.
        plan: steps and sizes.
        state: folder of what a killed job goes on from; a run's own is below it, called as its seed. The
            caller forgets it when the outputs are written.
        inputs_digest, claim, device, dino, progress: as for `finetune`.
        observe: called as that of `finetune`, with the seed before.

    Returns:
        The runs, in the order of the seeds.

    Raises:
        RegroupError, SystemExit: as `finetune`.
    """
    texts = KeptTexts()
    runs = []
    for seed in variant.seeds:
        one, own = variant.of_seed(seed), state / str(seed)
        made_by = fingerprint_of(one, settings, plan, inputs_digest, _backbone(checkpoint), device)
        curve = _finished(own / FINISHED, made_by)
        wait_for_all()  # everyone has looked before the first one writes
        if curve is None:
            if is_first() and len(variant.seeds) > 1:
                print(f"seed {seed}")
            model = start_model(checkpoint, variant=one, image_size=plan.image_size, dino=dino)
            heads = build_heads(model.config, one.heads, seed=seed)
            curve = finetune(
                model,
                data if seed == variant.seed else data.of_seed(one),
                one,
                settings,
                plan,
                state=own,
                inputs_digest=inputs_digest,
                claim=claim,
                device=device,
                dino=dino,
                heads=heads,
                texts=texts,
                observe=lambda step, row, seed=seed: observe(seed, step, row),  # type: ignore[misc]
                progress=progress,
            )
            if is_first():
                claim.confirm()
                forget(own / FINISHED)
                save_checkpoint(model, own / FINISHED)
                save_heads(heads, one.heads, own / FINISHED)
                if (own / FOLDER).is_dir():  # copied: the state is good for nothing without them
                    shutil.copytree(own / FOLDER, own / FINISHED / FOLDER)
                _note_finished(own / FINISHED, made_by, curve)
                (own / FILE).unlink(missing_ok=True)
        runs.append(FinishedRun(seed, own / FINISHED, curve))
    return runs


def write_runs(runs: Sequence[FinishedRun], out: Path) -> None:
    """Write a variant's run folder: the first seed's run into it, the others' below `seeds`.

    They are copied, so that a job that is killed here has lost nothing.
    """
    shutil.rmtree(out, ignore_errors=True)
    seeds = [run.seed for run in runs]
    for run in runs:
        target = seed_folder(out, seeds, run.seed)
        for name in _files(run.folder):
            with atomic_path(target / name) as path:
                shutil.copyfile(run.folder / name, path)
    write_seeds(out, seeds)


def _files(folder: Path) -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != _RECORD)


def _note_finished(folder: Path, made_by: Mapping[str, str], curve: Curve) -> None:
    """Say that a run is at its end; what stands beside this record is whole."""
    digests = {name: sha256(folder / name) for name in _files(folder)}
    record = {"made by": dict(made_by), "curve": curve, "files": digests}
    write_sealed(folder / _RECORD, json.dumps(record).encode())


def _finished(folder: Path, made_by: Mapping[str, str]) -> Curve | None:
    """The curve of a run that ended before; None if it did not, is damaged, or something else made it."""
    content = read_sealed(folder / _RECORD) if (folder / _RECORD).is_file() else None
    if content is None:
        return None
    record = json.loads(bytes(content))  # whole, so this project wrote it
    if record.get("made by") != dict(made_by):
        return None
    if any(
        not (folder / name).is_file() or sha256(folder / name) != digest
        for name, digest in record["files"].items()
    ):
        return None
    curve: Curve = record["curve"]
    return curve


def _backbone(checkpoint: CheckpointParams) -> str:
    return BACKBONES.digest(checkpoint.backbone)
