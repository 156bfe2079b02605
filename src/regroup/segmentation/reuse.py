"""Stage-one tokens kept on disk: the study's models share everything before the first grouping block.

Fine-tuning changes grouping blocks (and in some runs projectors), so on the same windows the patch embedding
and the first stage's transformer blocks give variants of one resolution the very same numbers, and they are
most of the work of a small model. Entries are found by the digest of what they depend on (weights, tokens,
the code of the model, the kind of machine), so one can never be wrong, only missing; a model whose first
stage was trained finds none.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from regroup.io import atomic_path

if TYPE_CHECKING:
    from regroup.model import GroupViT

MOST_WEIGHTS = 2
"""First stages whose tokens are kept: the shared one, and one more. Others are computed each time."""


@contextmanager
def reused_stage_one(model: GroupViT, folder: Path | None) -> Iterator[None]:
    """Let the first stage's transformer blocks look into `folder` before they run, inside the block.

    The numbers are those that the blocks give, to the last bit. For models in eval mode on a CPU; elsewhere,
    and with None, nothing is kept. The folder may be shared by any number of processes and removed at any
    time; its size is that of the tokens, some 0.1 MB for each window of the mini model.
    """
    if folder is None or model.training or model.logit_scale.device.type != "cpu":
        yield
        return
    stage = model.image.stages[0]
    blocks = {name: tensor for name, tensor in stage.state_dict().items() if not name.startswith("grouping")}
    same_code = folder / digest_of({}, *made_by(model))
    for other in set(folder.glob("*")) - {same_code}:
        shutil.rmtree(other, ignore_errors=True)  # nobody will ask for what other code made
    kept = same_code / digest_of(blocks, model.config.image)
    writable = kept.is_dir() or len(list(same_code.glob("*"))) < MOST_WEIGHTS
    run = stage.forward

    def forward(tokens: Tensor, previous: Tensor | None, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        file = kept / f"{digest_of({'tokens': tokens})}.safetensors"
        try:
            stored = load_file(file)
            return stored["tokens"], stored["groups"]
        except (OSError, SafetensorError, KeyError):  # not there, or not whole
            found, groups = run(tokens, previous, keep)
        if writable:
            with atomic_path(file) as temporary:
                save_file({"tokens": found.contiguous(), "groups": groups.contiguous()}, temporary)
        return found, groups

    stage.forward = forward
    try:
        yield
    finally:
        del stage.forward


def made_by(model: GroupViT) -> tuple[str, ...]:
    """What else a model's numbers depend on, to the last bit: its code, torch, the device, the threads."""
    folder = Path(sys.modules[type(model).__module__].__file__ or "").parent
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py"))))
    device = model.logit_scale.device.type
    capability = torch.backends.cpu.get_cpu_capability()
    return code.hexdigest(), torch.__version__, device, capability, str(torch.get_num_threads())


def digest_of(tensors: Mapping[str, Tensor], *values: object) -> str:
    """Hex SHA-256 of tensors, by name, and of anything that prints the same each time."""
    digest = hashlib.sha256(repr(values).encode())
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
