"""Distillation of self-supervised patch similarities into the grouping (section 5.14.3, eq. 54).

    target T = softmax_j(f_i . f_j)     of DINO's normalised features f of the patches, without temperature
    loss = 1/B sum_b sum_i sum_j -T_ij log (A^T A)_ij     with A = Attn (eq. 34)

A^T A is how likely two patches are in the same group.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from regroup.errors import RegroupError
from regroup.objectives import Need, ObjectiveInputs
from regroup.objectives._reduce import global_mean, normalise, upcast
from regroup.settings import Settings

NEEDS = frozenset({Need.ATTENTION, Need.DINO})

Rows = Literal["sum", "mean"]


class Options(Settings):
    """`rows`: their `sum` is eq. 54; their `mean` makes weights comparable between resolutions."""

    rows: Rows = "sum"


def loss(inputs: ObjectiveInputs, options: Options) -> Tensor:
    """The loss of a batch."""
    return dino_distillation(inputs.attention, inputs.dino, rows=options.rows)


def dino_distillation(
    attention: Float[Tensor, "b g l"], dino: Float[Tensor, "b m d"], *, rows: Rows = "sum"
) -> Float[Tensor, ""]:
    """Cross-entropy between the similarities of DINO's patches and of the groups', mean over images.

    Args:
        attention: a distribution over G for each patch (eq. 34).
        dino: features of the same patches; gets no gradient.
        rows: see `Options`.

    Raises:
        RegroupError: the number of patches differs.
    """
    if dino.shape[1] != attention.shape[2]:
        raise RegroupError(
            f"{dino.shape[1]} DINO patches but {attention.shape[2]} image patches; "
            "resize DINO's features to the image tower's grid"
        )
    features = normalise(dino.detach())
    target = (features @ features.transpose(1, 2)).softmax(2)
    attention = upcast(attention)
    prediction = attention.transpose(1, 2) @ attention
    logarithm = prediction.clamp_min(torch.finfo(prediction.dtype).tiny).log()
    total = -(target * logarithm).sum(2)
    return global_mean(total.sum(1) if rows == "sum" else total.mean(1))
