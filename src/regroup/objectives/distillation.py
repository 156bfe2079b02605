"""Distillation of self-supervised patch affinities into the grouping (section 5.14.3)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from regroup.errors import RegroupError
from regroup.objectives.reduce import global_mean, unit, wide


def dino_distillation(attention: Tensor, dino: Tensor, *, rows: Literal["sum", "mean"] = "sum") -> Tensor:
    """Cross-entropy between the affinities of DINO's patches and of the groups' (eq. 54), mean over images.

    The target is the row-wise softmax of the cosine similarities of DINO's features, without temperature. The
    prediction is Attn^T Attn: how likely two patches are in the same group.

    Args:
        attention: [B, G, L] (eq. 34).
        dino: [B, L, D], features of the same L patches; gets no gradient.
        rows: `sum` over the L rows is eq. 54; `mean` makes weights comparable between resolutions.

    Raises:
        RegroupError: the number of patches differs.
    """
    if dino.shape[1] != attention.shape[2]:
        raise RegroupError(
            f"dino_distillation: {dino.shape[1]} DINO patches but {attention.shape[2]} image patches; "
            "resize DINO's features to the image tower's grid"
        )
    features = unit(dino.detach())
    target = (features @ features.transpose(1, 2)).softmax(2)
    attention = wide(attention)
    prediction = attention.transpose(1, 2) @ attention
    logarithm = prediction.clamp_min(torch.finfo(prediction.dtype).tiny).log()
    loss = -(target * logarithm).sum(2)
    return global_mean(loss.sum(1) if rows == "sum" else loss.mean(1))
