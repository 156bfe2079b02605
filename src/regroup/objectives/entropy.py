"""Entropy penalties: patches sure of their group, groups and patches of their label (section 4.5)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from regroup.captions.settings import Padding
from regroup.objectives.contrastive import Form
from regroup.objectives.reduce import entropy_terms, global_mean, unit, wide

GROUP_WEIGHT, LABEL_WEIGHT = 0.2, 0.1
"""Weights of the two halves of the segment entropy (eq. 46)."""


def group_entropy(attention: Tensor, *, form: Form = "thesis") -> Tensor:
    """Entropy of patches over groups, GE (eq. 38 and 39), in nats, between 0 and log G.

    Args:
        attention: [B, G, L], a distribution over G for each patch (eq. 34).
        form: `published` applies a softmax over groups to `attention` first, and takes the mean over groups
            in place of the sum.
    """
    attention = wide(attention)
    if form == "published":
        return global_mean(entropy_terms(attention.softmax(1)).mean(1))
    return global_mean(entropy_terms(attention).sum(1))


def label_entropy(
    attention: Tensor,
    segments: Tensor,
    labels: Tensor,
    *,
    present: Tensor | None = None,
    padding: Padding = "null",
    form: Form = "thesis",
) -> Tensor:
    """Entropy of patches over the image's own labels, LE (eq. 41 to 43), in nats, between 0 and log K.

    Args:
        attention: [B, G, L] (eq. 34).
        segments: [B, G, C] projected segments.
        labels: [B, K, C]; K may be 0, which gives 0.
        present: bool [B, K], False at padding; None = no padding.
        padding: see `ObjectiveInputs`; a null label has similarity 0 to every segment. Images whose labels
            are all masked count in no mean.
        form: `published` applies a softmax over groups to `attention` and one over labels to the product, and
            takes the mean over labels in place of the sum.
    """
    if labels.shape[1] == 0:
        return segments.sum() * 0
    similarity, valid = segment_affinity(segments, labels, present, padding)
    attention = wide(attention)
    if form == "published":
        attention = attention.softmax(1)
    affinity = attention.transpose(1, 2) @ _masked_softmax(similarity, valid)
    if form == "published":
        affinity = _masked_softmax(affinity, valid)
    entropy = entropy_terms(affinity).sum(2).mean(1)
    if form == "published":
        entropy = entropy / valid.sum(1).clamp_min(1)
    return global_mean(entropy, valid.any(1))


def segment_entropy(
    segments: Tensor,
    labels: Tensor,
    *,
    present: Tensor | None = None,
    padding: Padding = "null",
    caption: Tensor | None = None,
) -> Tensor:
    """Entropy over the segment affinity metric, SE (eq. 44 to 46), in nats.

    Args:
        segments: [B, G, C] projected segments.
        labels: [B, K, C]; K may be 0, which gives 0 for this half.
        present: bool [B, K], False at padding; None = no padding.
        padding: see `ObjectiveInputs`. Images whose labels are all masked count in no mean.
        caption: [B, C]: adds the same penalty for the caption as a set of one label, as the published code
            does; None leaves it out, as the thesis does.
    """
    extra = segments.sum() * 0 if caption is None else segment_entropy(segments, caption[:, None])
    if labels.shape[1] == 0:
        return extra
    similarity, valid = segment_affinity(segments, labels, present, padding)
    over_labels = entropy_terms(_masked_softmax(similarity, valid)).sum(2).mean(1)
    over_groups = entropy_terms(similarity.softmax(1)).sum(1)
    over_groups = torch.where(valid, over_groups, 0).sum(1) / valid.sum(1).clamp_min(1)
    return global_mean(GROUP_WEIGHT * over_labels + LABEL_WEIGHT * over_groups, valid.any(1)) + extra


def segment_affinity(
    segments: Tensor, labels: Tensor, present: Tensor | None, padding: Padding
) -> tuple[Tensor, Tensor]:
    """Cosine similarity [B, G, K] of segments and labels (eq. 30), and which labels count, bool [B, K]."""
    valid = torch.ones(labels.shape[:2], dtype=torch.bool, device=labels.device)
    if present is not None and padding != "caption":
        features = unit(labels, present)
        valid = present if padding == "mask" else valid
    else:
        features = unit(labels)
    return unit(segments) @ features.transpose(1, 2), valid


def _masked_softmax(scores: Tensor, valid: Tensor) -> Tensor:
    """Softmax over the last axis of [B, N, K] within the valid labels [B, K]; zeros where there is none."""
    allowed = valid | ~valid.any(1, keepdim=True)
    p = F.softmax(scores.masked_fill(~allowed[:, None], -torch.inf), dim=2)
    return torch.where(valid[:, None], p, 0)
