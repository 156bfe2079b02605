"""GroupViT of `regroup.model`, from our own checkpoints, Hugging Face's, or the original code's `.pth`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regroup.model.config import GroupViTConfig

if TYPE_CHECKING:
    import torch

    from regroup.model.checkpoint import Checkpoint
    from regroup.model.groupvit import GroupViT
    from regroup.model.weights import Names, Weights


def config_from(values: object, *, source: str) -> GroupViTConfig:
    """Sizes, from the plain values of a `config.json`."""
    return GroupViTConfig.from_dict(values, source=source)


def make(config: GroupViTConfig, generator: torch.Generator) -> GroupViT:
    """A model with random weights."""
    from regroup.model.groupvit import GroupViT

    return GroupViT(config, generator=generator)


def names() -> tuple[Names, ...]:
    """How tensors of each layout are told."""
    from regroup.model.names import NAMES

    return tuple(NAMES.values())


def read(weights: Weights) -> Checkpoint:
    """What tensors of one of `names` are: their sizes, and the model that they make."""
    from regroup.model.checkpoint import interpret

    return interpret(weights)
