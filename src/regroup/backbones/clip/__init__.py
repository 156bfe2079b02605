"""CLIP's ViT, from our own checkpoints, Hugging Face's `transformers.CLIPModel`, or OpenAI's names.

Without grouping: each patch is a segment of its own, read out as MaskCLIP does (`network`).
"""

from __future__ import annotations

import torch

from regroup.backbones.clip.config import ClipConfig
from regroup.backbones.clip.layouts import NAMES, ClipCheckpoint
from regroup.backbones.clip.network import Clip
from regroup.model.weights import Weights

__all__ = ["NAMES", "config_from", "make", "read"]


def config_from(values: object, *, source: str) -> ClipConfig:
    """Sizes, from the plain values of a `config.json`."""
    return ClipConfig.from_dict(values, source=source)


def make(config: ClipConfig, generator: torch.Generator) -> Clip:
    """A model with random weights."""
    return Clip(config, generator=generator)


def read(weights: Weights) -> ClipCheckpoint:
    """What tensors of one of `NAMES` are: their sizes, and the model that they make."""
    return ClipCheckpoint.of(weights)
