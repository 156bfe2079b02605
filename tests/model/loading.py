"""Checkpoints of models so small that their files do not show their sizes."""

from dataclasses import replace
from pathlib import Path
from typing import cast

from regroup import backbones
from regroup.model import GroupViT, GroupViTConfig
from regroup.model.checkpoint import Checkpoint


def load_checkpoint(path: Path, *, config: GroupViTConfig | None = None) -> GroupViT:
    """Load a GroupViT; `config` stands for what tensors do not tell: heads of other than 64 channels."""
    if config is None:
        return cast(GroupViT, backbones.load_checkpoint(path))
    return replace(cast(Checkpoint, backbones.read_checkpoint(path)), config=config).model()
