"""Pairwise sigmoid loss (SigLIP, Zhai et al. 2023): each pair of the batch is right or wrong by itself.

    1/B sum_i sum_j softplus(-y_ij (s z_i . t_j + b))    with y_ij = 1 for i = j, else -1

with normalised features z and t of the batch of all ranks, and s and b learned by the head `pair_scale`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from regroup.model.collectives import all_gather, rank
from regroup.objectives import ObjectiveInputs
from regroup.objectives._reduce import global_mean, normalise

HEADS = frozenset({"pair_scale"})


def loss(inputs: ObjectiveInputs, options: object) -> Float[Tensor, ""]:
    """The loss of a batch."""
    image, caption = normalise(inputs.image), normalise(inputs.caption)
    logits = inputs.heads["pair_scale"](image @ all_gather(caption).T)
    own = torch.arange(len(image), device=image.device)
    signs = -torch.ones_like(logits)
    signs[own, own + rank() * len(image)] = 1
    return global_mean(F.softplus(-signs * logits).sum(1))
