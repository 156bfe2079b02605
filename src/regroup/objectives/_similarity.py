"""Segments beside labels: what the penalties on their entropy share."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from regroup.model.constants import Padding
from regroup.objectives._reduce import normalise


def segment_similarity(
    segments: Float[Tensor, "b g c"],
    labels: Float[Tensor, "b k c"],
    present: Bool[Tensor, "b k"] | None,
    padding: Padding,
    *,
    as_given: bool = False,
) -> tuple[Float[Tensor, "b g k"], Bool[Tensor, "b k"]]:
    """Cosine similarity of segments and labels (eq. 30), and which labels count.

    Padding that counts is an embedding of zeros, or with `as_given` whatever stands in `labels`.
    """
    valid = torch.ones(labels.shape[:2], dtype=torch.bool, device=labels.device)
    zeros = padding == "mask" or (padding != "caption" and not as_given)
    if present is not None and zeros:
        features = normalise(labels, present)
        valid = present if padding == "mask" else valid
    else:
        features = normalise(labels)
    return normalise(segments) @ features.transpose(1, 2), valid


def masked_softmax(scores: Float[Tensor, "b n k"], valid: Bool[Tensor, "b k"]) -> Float[Tensor, "b n k"]:
    """Softmax over the last axis within the valid labels; zeros where there is none."""
    allowed = valid | ~valid.any(1, keepdim=True)
    p = F.softmax(scores.masked_fill(~allowed[:, None], -torch.inf), dim=2)
    return torch.where(valid[:, None], p, 0)
