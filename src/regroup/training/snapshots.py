"""What a run had learned at some of its steps, without what stayed frozen: for validation curves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from regroup.errors import RegroupError
from regroup.io import atomic_path
from regroup.model import Backbone
from regroup.model.weights import read_safetensors, require_finite

FOLDER = "snapshots"
_POINT = "step and epoch"
_HEADS = "heads."
NO_STATISTICS: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class Snapshot:
    """One file of `snapshots/`: the optimiser steps and the epochs that were done."""

    path: Path
    step: int
    epoch: float


def snapshot_steps(steps: int, count: int) -> frozenset[int]:
    """After which of a run's steps its `count` snapshots are taken: evenly spread, the last at the end."""
    return frozenset(round(steps * (number + 1) / count) for number in range(count)) - {0}


def save_snapshot(
    model: Backbone,
    folder: Path,
    *,
    step: int,
    epoch: float,
    learned: Collection[str] = (),
    statistics: Mapping[str, Tensor] = NO_STATISTICS,
    heads: nn.ModuleDict | None = None,
) -> Path:
    """Write what training changes: parameters, heads, and buffers (batch norm's running statistics move too).

    Args:
        model: plain, as it is after `step` steps.
        folder: where the file goes.
        step: optimiser steps that were done.
        epoch: the same in epochs.
        learned: names of the parameters that training may change.
        statistics: buffers in place of the model's own of these names.
        heads: what is trained beside the model.

    Returns:
        The file written.
    """
    tensors = {
        name: parameter.detach() for name, parameter in model.named_parameters() if name in learned
    } | {**dict(model.named_buffers()), **statistics}
    if heads is not None:
        tensors |= {f"{_HEADS}{name}": tensor for name, tensor in heads.state_dict().items()}
    kept = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    file = folder / f"step-{step:06}.safetensors"
    with atomic_path(file) as path:
        # one entry: safetensors writes several in an order that differs from run to run
        safetensors.torch.save_file(kept, path, {_POINT: json.dumps([step, epoch])})
    return file


def move_snapshots(taken: Path, run: Path) -> None:
    """Replace the snapshots of a run's folder by those taken during the run."""
    shutil.rmtree(run / FOLDER, ignore_errors=True)
    if taken.is_dir():
        run.mkdir(parents=True, exist_ok=True)
        taken.replace(run / FOLDER)


def list_snapshots(run: Path) -> list[Snapshot]:
    """The snapshots of a run's folder, by step.

    Raises:
        RegroupError: a file is no snapshot.
    """
    found = []
    for path in sorted((run / FOLDER).glob("step-*.safetensors")):
        try:
            with safetensors.safe_open(path, "pt") as file:
                step, epoch = json.loads((file.metadata() or {})[_POINT])
            found.append(Snapshot(path, int(step), float(epoch)))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise RegroupError(f"{path}: not a snapshot ({error}); run the stage `finetune` again") from None
    return found


@torch.no_grad()
def apply_snapshot(model: Backbone, snapshot: Snapshot, heads: nn.ModuleDict | None = None) -> None:
    """Put the snapshot's tensors into the model that its run ended with, and into its heads if given.

    Raises:
        RegroupError: the file is damaged, or a tensor is not finite or not the model's.
    """
    own = dict(model.state_dict())
    if heads is not None:
        own |= {f"{_HEADS}{name}": tensor for name, tensor in heads.state_dict().items()}
    tensors = read_safetensors(snapshot.path)
    require_finite(tensors, str(snapshot.path))
    for name, tensor in tensors.items():
        if heads is None and name.startswith(_HEADS):
            continue
        if name not in own or own[name].shape != tensor.shape:
            raise RegroupError(f"{snapshot.path}: {name} does not fit the model of its run")
        own[name].copy_(tensor)
