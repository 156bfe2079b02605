"""GroupViT of `regroup.model`, from our own checkpoints, Hugging Face's, or the original code's `.pth`."""

from __future__ import annotations

import torch

from regroup.model.checkpoint import Checkpoint, interpret
from regroup.model.config import GroupViTConfig
from regroup.model.groupvit import GroupViT
from regroup.model.names import NAMES as LAYOUTS
from regroup.model.weights import Weights

NAMES = tuple(LAYOUTS.values())


def config_from(values: object, *, source: str) -> GroupViTConfig:
    """Sizes, from the plain values of a `config.json`."""
    return GroupViTConfig.from_dict(values, source=source)


def make(config: GroupViTConfig, generator: torch.Generator) -> GroupViT:
    """A model with random weights."""
    return GroupViT(config, generator=generator)


def read(weights: Weights) -> Checkpoint:
    """What tensors of one of `NAMES` are: their sizes, and the model that they make."""
    return interpret(weights)
