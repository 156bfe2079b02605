"""Means over the whole batch, and the arithmetic that losses share."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from regroup.model.collectives import world_size

MAX_SCALE = 100.0
"""Largest inverse temperature."""


def global_mean(values: Float[Tensor, "*n"], valid: Bool[Tensor, "*n"] | None = None) -> Float[Tensor, ""]:
    """Mean of all ranks' values, or of those that are valid; 0, with a gradient of 0, if there is none.

    On several ranks the value is that of the whole batch, the gradient this rank's share times the number of
    ranks, which averaging over ranks makes right.
    """
    if valid is not None:
        values = torch.where(valid, values, 0)
    counted = values.numel() if valid is None else valid.sum()
    count = torch.as_tensor(counted, device=values.device).to(values.dtype)
    ranks = world_size()
    if ranks == 1:
        return values.sum() / count.clamp_min(1)
    total = torch.stack([values.detach().sum(), count])
    dist.all_reduce(total)
    mean = total[0] / total[1].clamp_min(1)
    local = values.sum() * ranks / total[1].clamp_min(1)
    return local + (mean - local.detach())


def upcast(x: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """`x` in float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def normalise(x: Float[Tensor, "*n c"], valid: Bool[Tensor, "*n"] | None = None) -> Float[Tensor, "*n c"]:
    """L2-normalise the last axis; vectors that are not valid become zero and get no gradient."""
    if valid is None:
        return F.normalize(upcast(x), dim=-1)
    # the norm has no slope at zero, so replace before dividing as well as after
    safe = torch.where(valid[..., None], upcast(x), 1)
    return torch.where(valid[..., None], F.normalize(safe, dim=-1), 0)


def inverse_temperature(logit_scale: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """exp(logit_scale), at most 100."""
    return upcast(logit_scale).exp().clamp(max=MAX_SCALE)


def entropy_terms(p: Float[Tensor, "*n"], offset: float = 0.0) -> Float[Tensor, "*n"]:
    """-p log(p + offset), elementwise; 0 at 0, with a finite gradient."""
    return -p * (p + offset if offset else p.clamp_min(torch.finfo(p.dtype).tiny)).log()
