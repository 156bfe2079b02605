"""Stage-one tokens kept on disk: the study's models share everything before the first grouping block.

Fine-tuning changes grouping blocks (and in some runs projectors), so on the same windows the patch embedding
and the first stage's transformer blocks give variants of one resolution the very same numbers, and they are
most of the work of a small model. Entries are found by the digest of what they depend on (weights, tokens,
the code of the model, the kind of machine) and checked when read, so one can never be wrong, only missing; a
model whose first stage was trained finds none.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load, save
from torch import Tensor

from regroup.backbones import ROOM
from regroup.io import read_sealed, source_digest, write_sealed
from regroup.model.machine import machine

if TYPE_CHECKING:
    from regroup.model import Backbone

MOST_WEIGHTS = 2
"""First stages whose tokens are kept: the shared one, and one more. Others are computed each time."""


@contextmanager
def reused_stage_one(model: Backbone, folder: Path | None) -> Iterator[None]:
    """Let the first stage's transformer blocks look into `folder` before they run, inside the block.

    The numbers are those that the blocks give, to the last bit. For models in eval mode on a CPU; elsewhere,
    for backbones without a first stage, and with None, nothing is kept. The folder may be shared by any
    number of processes and removed at any time; its size is that of the tokens, some 0.1 MB for each window
    of the mini model.
    """
    stage = model.first_stage()
    if folder is None or stage is None or model.training or model.device.type != "cpu":
        yield
        return
    blocks = {name: tensor for name, tensor in stage.state_dict().items() if not name.startswith("grouping")}
    same_code = folder / digest_of({}, *made_by(model))
    for other in set(folder.glob("*")) - {same_code}:
        shutil.rmtree(other, ignore_errors=True)  # nobody will ask for what other code made
    kept = same_code / digest_of(blocks, model.config.image)
    writable = kept.is_dir() or len(list(same_code.glob("*"))) < MOST_WEIGHTS
    run = stage.forward

    def forward(tokens: Tensor, previous: Tensor | None, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        file = kept / digest_of({"tokens": tokens})
        if (stored := read_tensors(file)) is not None:
            return stored["tokens"], stored["groups"]
        found, groups = run(tokens, previous, keep)
        if writable:
            write_tensors(file, tokens=found, groups=groups)
        return found, groups

    stage.forward = forward
    try:
        yield
    finally:
        del stage.forward


def made_by(model: Backbone) -> tuple[str, ...]:
    """What else a model's numbers depend on, to the last bit: its code, and the machine."""
    return source_digest("model"), ROOM.digest(model.config.architecture), machine(model.device)


def write_tensors(file: Path, **tensors: Tensor) -> None:
    """Keep tensors; what is read back is what was written, or nothing."""
    write_sealed(file, save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}))


def read_tensors(file: Path) -> dict[str, Tensor] | None:
    """What `write_tensors` kept; None if there is nothing, or the file is no longer what was written."""
    content = read_sealed(file)
    return None if content is None else load(bytes(content))


def digest_of(tensors: Mapping[str, Tensor], *values: object) -> str:
    """Hex SHA-256 of tensors, by name, and of anything that prints the same each time."""
    digest = hashlib.sha256(repr(values).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
