"""Losses that pull an image and its texts together and push others apart (sections 4.3 and 5.10)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from regroup.captions.settings import Padding
from regroup.model.collectives import all_gather, rank
from regroup.objectives.reduce import global_mean, inverse_temperature, unit

Form = Literal["thesis", "published"]
Scope = Literal["global", "local"]


def contrastive_loss(
    image: Tensor, caption: Tensor, logit_scale: Tensor, *, form: Form = "published"
) -> Tensor:
    """Image-caption contrastive loss over the batch of all ranks (eq. 23 to 25).

    Args:
        image: [B, C].
        caption: [B, C], row i belonging to image i.
        logit_scale: log of 1/tau, a scalar.
        form: `published` is the mean of both directions, `thesis` their sum (eq. 25).
    """
    image, caption = unit(image), unit(caption)
    scale = inverse_temperature(logit_scale)
    own = torch.arange(len(image), device=image.device) + rank() * len(image)
    image_to_text = F.cross_entropy(scale * image @ all_gather(caption).T, own, reduction="none")
    text_to_image = F.cross_entropy(scale * caption @ all_gather(image).T, own, reduction="none")
    return _join(global_mean(image_to_text), global_mean(text_to_image), form)


def multi_label_loss(
    image: Tensor,
    labels: Tensor,
    logit_scale: Tensor,
    *,
    present: Tensor | None = None,
    padding: Padding = "null",
    form: Form = "published",
) -> Tensor:
    """Multi-label contrastive loss over the batch of all ranks (eq. 26 to 28).

    Args:
        image: [B, C].
        labels: [B, K, C]; K may be 0, which gives 0.
        logit_scale: log of 1/tau, a scalar.
        present: bool [B, K], False at padding; None = no padding.
        padding: see `ObjectiveInputs`. An image whose labels are all masked counts in no mean.
        form: `published` shares an image's mass equally among its labels (soft targets) and takes the mean of
            both directions; `thesis` has the logarithm of the sum (eq. 26) and the sum of directions (eq.
            28).
    """
    if labels.shape[1] == 0:
        return image.sum() * 0
    image = unit(image)
    labels, valid = _prepare(labels, present, padding)
    count, places = labels.shape[:2]
    scale = inverse_temperature(logit_scale)
    own = torch.arange(count, device=image.device) + rank() * count

    logits = scale * image @ all_gather(labels).flatten(0, 1).T
    everyone = all_gather(valid).flatten() if padding == "mask" else None
    normaliser = _log_sum_exp(logits, everyone)
    positive = logits.view(count, -1, places)[torch.arange(count, device=image.device), own]
    if form == "thesis":
        numerator = _log_sum_exp(positive, valid)
    else:
        numerator = torch.where(valid, positive, 0).sum(1) / valid.sum(1).clamp_min(1)
    image_to_text = global_mean(normaliser - numerator, valid.any(1))

    logits = scale * labels.flatten(0, 1) @ all_gather(image).T
    loss = F.cross_entropy(logits, own.repeat_interleave(places), reduction="none")
    return _join(image_to_text, global_mean(loss, valid.flatten()), form)


def noise_free_loss(
    image: Tensor,
    labels: Tensor,
    label_ids: Tensor,
    logit_scale: Tensor,
    *,
    padding: Padding = "null",
    scope: Scope = "global",
) -> Tensor:
    """Multi-label loss in which equal labels of different images are positives of both (section 5.10).

    Args:
        image: [B, C].
        labels: [B, K, C]; K may be 0, which gives 0.
        label_ids: int64 [B, K], -1 at padding.
        logit_scale: log of 1/tau, a scalar.
        padding: see `ObjectiveInputs`. Padding that is not masked is a label of its own image alone, even
            where several images are padded alike.
        scope: `global` compares the batches of all ranks, `local` each rank's own, as the study did.

    Returns:
        The mean of both directions, each with soft targets as `noise_free_targets` gives them.
    """
    if labels.shape[1] == 0:
        return image.sum() * 0
    image = unit(image)
    labels, valid = _prepare(labels, label_ids >= 0, padding)
    gather = all_gather if scope == "global" else _identity
    offset = rank() * len(image) if scope == "global" else 0
    ids = unique_padding(label_ids, offset * label_ids.shape[1])
    all_ids = gather(ids)
    all_valid = gather(valid).flatten()
    scale = inverse_temperature(logit_scale)

    logits = scale * image @ gather(labels).flatten(0, 1).T
    positive = label_matches(ids, all_ids.flatten()) & all_valid
    image_to_text = global_mean(_soft_cross_entropy(logits, positive, all_valid), valid.any(1))

    logits = scale * labels.flatten(0, 1) @ gather(image).T
    positive = label_matches(all_ids, ids.flatten()).T
    text_to_image = global_mean(_soft_cross_entropy(logits, positive, None), valid.flatten())
    return (image_to_text + text_to_image) / 2


def noise_free_targets(label_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Targets of the noise-free loss, as distributions.

    Args:
        label_ids: int64 [B, K], -1 at padding, which is a label of its own image alone.

    Returns:
        Image to label [B, B * K]: per image, uniform over all places whose label is among the image's.
        Label to image [B * K, B]: per place, uniform over the images that carry its label.
    """
    # all is decided by the distinct labels, of which there are few; places only repeat their rows
    ids = unique_padding(label_ids, 0)
    _, rows, places = torch.unique(ids, return_inverse=True, return_counts=True)
    carried = _carriers(rows, len(places)).float()
    own_places = places.float() @ carried  # of each image's labels, in the whole batch: exact up to 2 ** 24
    rows = rows.flatten()
    return (carried / own_places)[rows].T, (carried / carried.sum(1, keepdim=True))[rows]


def label_matches(label_ids: Tensor, places: Tensor) -> Tensor:
    """Whether image i carries the label at place p: bool [B, P] of ids [B, K] and [P]."""
    if label_ids.is_cuda:  # quick there, and needs no answer from the device
        return compare_all(label_ids, places)
    _, rows = torch.unique(torch.cat([label_ids.flatten(), places]), return_inverse=True)
    own, wanted = rows[: label_ids.numel()].view_as(label_ids), rows[label_ids.numel() :]
    return _carriers(own, int(rows.max()) + 1)[wanted].T


def _carriers(rows: Tensor, count: int) -> Tensor:
    """Which images carry each of `count` distinct labels: bool [count, B] of rows [B, K]."""
    carried = torch.zeros(count, len(rows), dtype=torch.bool, device=rows.device)
    carried[rows, torch.arange(len(rows), device=rows.device)[:, None]] = True
    return carried


def compare_all(label_ids: Tensor, places: Tensor) -> Tensor:
    """`label_matches` as one comparison of all pairs."""
    return (label_ids[:, :, None] == places).any(1)


def unique_padding(label_ids: Tensor, first: int) -> Tensor:
    """Replace every -1 by a negative number of its own, counting from place `first` of the whole batch."""
    own = torch.arange(label_ids.numel(), device=label_ids.device).view_as(label_ids) + first
    return torch.where(label_ids < 0, -1 - own, label_ids)


def _prepare(labels: Tensor, present: Tensor | None, padding: Padding) -> tuple[Tensor, Tensor]:
    """Unit label features, and which places take part in the loss."""
    everywhere = torch.ones(labels.shape[:2], dtype=torch.bool, device=labels.device)
    if present is None or padding == "caption":
        return unit(labels), everywhere
    return unit(labels, present), present if padding == "mask" else everywhere


def _log_sum_exp(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Row-wise log-sum-exp over the valid columns; 0 for a row without any."""
    if valid is None:
        return logits.logsumexp(1)
    empty = ~valid.expand_as(logits).any(1)
    # a row of nothing but -inf has no gradient, so such rows keep their logits and are replaced afterwards
    return torch.where(empty, 0, logits.masked_fill(~(valid | empty[:, None]), -torch.inf).logsumexp(1))


def _soft_cross_entropy(logits: Tensor, positive: Tensor, valid: Tensor | None) -> Tensor:
    """Cross-entropy of each row against the uniform distribution over its positives."""
    mean = torch.where(positive, logits, 0).sum(1) / positive.sum(1).clamp_min(1)
    return _log_sum_exp(logits, valid) - mean


def _join(first: Tensor, second: Tensor, form: Form) -> Tensor:
    return first + second if form == "thesis" else (first + second) / 2


def _identity(x: Tensor) -> Tensor:
    return x
