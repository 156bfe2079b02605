"""What the contrastive losses share: directions, label features, soft targets."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regroup.model.constants import Padding
from regroup.objectives._reduce import global_mean, normalise

Form = Literal["thesis", "published"]


def join(first: Float[Tensor, ""], second: Float[Tensor, ""], form: Form) -> Float[Tensor, ""]:
    """Both directions of a loss: their sum as the thesis has it, their mean as the published code does."""
    return first + second if form == "thesis" else (first + second) / 2


def prepare_labels(
    labels: Float[Tensor, "b k c"], present: Bool[Tensor, "b k"] | None, padding: Padding
) -> tuple[Float[Tensor, "b k c"], Bool[Tensor, "b k"]]:
    """Normalised label features, and which places are targets."""
    everywhere = torch.ones(labels.shape[:2], dtype=torch.bool, device=labels.device)
    if present is None or padding == "caption":
        return normalise(labels), everywhere
    return normalise(labels, present), everywhere if padding == "null" else present


def target_mean(values: Float[Tensor, "*n"], targets: Bool[Tensor, "*n"], padding: Padding) -> Tensor:
    """Mean over those that have a target; with padding `denominator` over all, the others as 0."""
    if padding == "denominator":
        return global_mean(torch.where(targets, values, 0))
    return global_mean(values, targets)


def log_sum_exp(logits: Float[Tensor, "n m"], valid: Bool[Tensor, "*m"] | None) -> Float[Tensor, " n"]:
    """Row-wise log-sum-exp over the valid columns ([m], or [n, m]); 0 for a row without any."""
    if valid is None:
        return logits.logsumexp(1)
    empty = ~valid.expand_as(logits).any(1)
    # a row of nothing but -inf has no gradient, so such rows keep their logits and are replaced afterwards
    return torch.where(empty, 0, logits.masked_fill(~(valid | empty[:, None]), -torch.inf).logsumexp(1))


def soft_cross_entropy(
    logits: Float[Tensor, "n m"], positive: Bool[Tensor, "n m"], valid: Bool[Tensor, "*m"] | None
) -> Float[Tensor, " n"]:
    """Cross-entropy of each row against the uniform distribution over its positives."""
    mean = torch.where(positive, logits, 0).sum(1) / positive.sum(1).clamp_min(1)
    return log_sum_exp(logits, valid) - mean
