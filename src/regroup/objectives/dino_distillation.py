"""Distillation of self-supervised patch similarities into the grouping (section 5.14.3, eq. 54).

    target T = softmax_j(f_i . f_j)     of DINO's normalised features f of the patches, without temperature
    loss = 1/B sum_b sum_i sum_j -T_ij log (A^T A)_ij     with A = Attn (eq. 34)

A^T A is how likely two patches are in the same group. The study's published code instead takes
the mean over patches i of

    sum_j -T_ji log softmax_j((A^T A)_ij)

which is some hundred times smaller, and its gradient with it.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor

from regroup.errors import RegroupError
from regroup.objectives import Need, ObjectiveInputs
from regroup.objectives._reduce import global_mean, normalise, upcast
from regroup.settings import Settings

NEEDS = frozenset({Need.ATTENTION, Need.DINO})

Rows = Literal["sum", "mean"]
Form = Literal["thesis", "published"]


class Options(Settings):
    """Which of the two forms.

    `form`: `published` takes the logarithm of a softmax of A^T A in place of A^T A itself, normalises the
    target over its other axis, and takes the mean over patches. `rows`, of the form `thesis`: their `sum` is
    eq. 54 (as null is); their `mean` makes weights comparable between resolutions.
    """

    form: Form = "thesis"
    rows: Rows | None = None

    @model_validator(mode="after")
    def _rows_are_the_thesis_s(self) -> Options:
        if self.form == "published" and self.rows is not None:
            raise ValueError("`form: published` has a mean of rows of its own; drop `rows`")
        return self


def loss(inputs: ObjectiveInputs, options: Options) -> Tensor:
    """The loss of a batch."""
    return dino_distillation(inputs.attention, inputs.dino, form=options.form, rows=options.rows or "sum")


def dino_distillation(
    attention: Float[Tensor, "b g l"],
    dino: Float[Tensor, "b m d"],
    *,
    form: Form = "thesis",
    rows: Rows = "sum",
) -> Float[Tensor, ""]:
    """Cross-entropy between the similarities of DINO's patches and of the groups', mean over images.

    Args:
        attention: a distribution over G for each patch (eq. 34).
        dino: features of the same patches; gets no gradient.
        form, rows: see `Options`.

    Raises:
        RegroupError: the number of patches differs.
    """
    if dino.shape[1] != attention.shape[2]:
        raise RegroupError(
            f"{dino.shape[1]} DINO patches but {attention.shape[2]} image patches; "
            "resize DINO's features to the image tower's grid"
        )
    features = normalise(dino.detach())
    affinity = features @ features.transpose(1, 2)
    attention = upcast(attention)
    prediction = attention.transpose(1, 2) @ attention
    if form == "published":
        return global_mean(-(affinity.softmax(1) * prediction.log_softmax(2)).sum(2).mean(1))
    target = affinity.softmax(2)
    logarithm = prediction.clamp_min(torch.finfo(prediction.dtype).tiny).log()
    total = -(target * logarithm).sum(2)
    return global_mean(total.sum(1) if rows == "sum" else total.mean(1))
