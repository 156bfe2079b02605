"""A learned scale and bias that turn cosines of image-text pairs into logits (SigLIP, Zhai et al. 2023)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from regroup.heads import HeadOptions

if TYPE_CHECKING:
    from regroup.model.interface import BackboneConfig


class Options(HeadOptions):
    """Where scale and bias begin: most pairs of a batch do not belong together, and the bias says so."""

    scale: float = Field(default=10.0, gt=0, le=1000)
    bias: float = Field(default=-10.0, ge=-1000, le=1000)


class PairScale(nn.Module):
    """cosine -> exp(log_scale) * cosine + bias."""

    def __init__(self, scale: float, bias: float) -> None:
        """Start at these values."""
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.bias = nn.Parameter(torch.tensor(bias))

    def forward(self, cosines: Float[Tensor, ...]) -> Float[Tensor, ...]:
        """Logits that the pairs belong together."""
        return self.log_scale.exp() * cosines + self.bias


def build(config: BackboneConfig, options: Options, generator: torch.Generator) -> PairScale:
    """Two scalars; nothing is drawn."""
    return PairScale(options.scale, options.bias)
