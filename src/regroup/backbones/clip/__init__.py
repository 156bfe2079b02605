"""CLIP's ViT, from our own checkpoints, Hugging Face's `transformers.CLIPModel`, or OpenAI's names.

Without grouping: each patch is a segment of its own, read out as MaskCLIP does (`network`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regroup.backbones.clip.config import ClipConfig

if TYPE_CHECKING:
    import torch

    from regroup.backbones.clip.layouts import ClipCheckpoint
    from regroup.backbones.clip.network import Clip
    from regroup.model.weights import Names, Weights


def config_from(values: object, *, source: str) -> ClipConfig:
    """Sizes, from the plain values of a `config.json`."""
    return ClipConfig.from_dict(values, source=source)


def make(config: ClipConfig, generator: torch.Generator) -> Clip:
    """A model with random weights."""
    from regroup.backbones.clip.network import Clip

    return Clip(config, generator=generator)


def names() -> tuple[Names, ...]:
    """How tensors of each layout are told."""
    from regroup.backbones.clip.layouts import NAMES

    return NAMES


def read(weights: Weights) -> ClipCheckpoint:
    """What tensors of one of `names` are: their sizes, and the model that they make."""
    from regroup.backbones.clip.layouts import ClipCheckpoint

    return ClipCheckpoint.of(weights)
