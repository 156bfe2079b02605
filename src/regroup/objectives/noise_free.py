"""Noise-free contrastive loss (section 5.10): equal labels of different images are positives of both.

As the multi-label loss (eq. 26 to 28), but the targets of an image are spread evenly over all places of the
batch whose label it carries, and those of a place over all images that carry its label.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from regroup.model.collectives import all_gather, rank
from regroup.model.constants import Padding
from regroup.objectives import Need, ObjectiveInputs
from regroup.objectives._contrast import prepare_labels, soft_cross_entropy, target_mean
from regroup.objectives._reduce import inverse_temperature, normalise
from regroup.settings import Settings

NEEDS = frozenset({Need.LABELS})

Scope = Literal["global", "local"]


class Options(Settings):
    """`scope`: `global` compares the batches of all ranks, `local` each rank's own, as the study did."""

    scope: Scope = "global"


def loss(inputs: ObjectiveInputs, options: Options) -> Tensor:
    """The loss of a batch."""
    labels, scale = inputs.labels, inputs.multi_label_logit_scale
    return noise_free_loss(
        inputs.image, labels.features, labels.ids, scale, padding=inputs.padding, scope=options.scope
    )


def noise_free_loss(
    image: Float[Tensor, "b c"],
    labels: Float[Tensor, "b k c"],
    label_ids: Int64[Tensor, "b k"],
    logit_scale: Float[Tensor, ""],
    *,
    padding: Padding = "null",
    scope: Scope = "global",
) -> Float[Tensor, ""]:
    """Multi-label loss in which equal labels of different images are positives of both (section 5.10).

    Args:
        image: features, not normalised.
        labels: of each image; K may be 0, which gives 0.
        label_ids: -1 at padding.
        logit_scale: log of 1/tau.
        padding: see `ObjectiveInputs`. With `caption` and `null`, padding is a label of its own image alone,
            even where several images are padded alike. The study's published code is `denominator`.
        scope: see `Options`.

    Returns:
        The mean of both directions, each with soft targets as `noise_free_targets` gives them.
    """
    if labels.shape[1] == 0:
        return image.sum() * 0
    image = normalise(image)
    labels, valid = prepare_labels(labels, label_ids >= 0, padding)
    gather = all_gather if scope == "global" else _identity
    offset = rank() * len(image) if scope == "global" else 0
    ids = unique_padding(label_ids, offset * label_ids.shape[1])
    all_ids = gather(ids)
    all_valid = gather(valid).flatten()
    compared = all_valid if padding == "mask" else None
    scale = inverse_temperature(logit_scale)

    logits = scale * image @ gather(labels).flatten(0, 1).T
    positive = label_matches(ids, all_ids.flatten()) & all_valid
    image_to_text = target_mean(soft_cross_entropy(logits, positive, compared), valid.any(1), padding)

    logits = scale * labels.flatten(0, 1) @ gather(image).T
    positive = label_matches(all_ids, ids.flatten()).T
    text_to_image = target_mean(soft_cross_entropy(logits, positive, None), valid.flatten(), padding)
    return (image_to_text + text_to_image) / 2


def noise_free_targets(
    label_ids: Int64[Tensor, "b k"],
) -> tuple[Float[Tensor, "b bk"], Float[Tensor, "bk b"]]:
    """Targets of the noise-free loss, as distributions.

    Args:
        label_ids: -1 at padding, which is a label of its own image alone.

    Returns:
        Image to label, over the B * K places: per image, uniform over those whose label is among the image's.
        Label to image: per place, uniform over the images that carry its label.
    """
    # all is decided by the distinct labels, of which there are few; places only repeat their rows
    ids = unique_padding(label_ids, 0)
    _, rows, places = torch.unique(ids, return_inverse=True, return_counts=True)
    carried = _carriers(rows, len(places)).float()
    own_places = places.float() @ carried  # of each image's labels, in the whole batch: exact up to 2 ** 24
    rows = rows.flatten()
    return (carried / own_places)[rows].T, (carried / carried.sum(1, keepdim=True))[rows]


def label_matches(label_ids: Int64[Tensor, "b k"], places: Int64[Tensor, " p"]) -> Bool[Tensor, "b p"]:
    """Whether image i carries the label at place p."""
    if label_ids.is_cuda:  # quick there, and needs no answer from the device
        return compare_all(label_ids, places)
    _, rows = torch.unique(torch.cat([label_ids.flatten(), places]), return_inverse=True)
    own, wanted = rows[: label_ids.numel()].view_as(label_ids), rows[label_ids.numel() :]
    return _carriers(own, int(rows.max()) + 1)[wanted].T


def _carriers(rows: Int64[Tensor, "b k"], count: int) -> Bool[Tensor, "count b"]:
    """Which images carry each of `count` distinct labels."""
    carried = torch.zeros(count, len(rows), dtype=torch.bool, device=rows.device)
    carried[rows, torch.arange(len(rows), device=rows.device)[:, None]] = True
    return carried


def compare_all(label_ids: Int64[Tensor, "b k"], places: Int64[Tensor, " p"]) -> Bool[Tensor, "b p"]:
    """`label_matches` as one comparison of all pairs."""
    return (label_ids[:, :, None] == places).any(1)


def unique_padding(label_ids: Int64[Tensor, "b k"], first: int) -> Int64[Tensor, "b k"]:
    """Replace every -1 by a negative number of its own, counting from place `first` of the whole batch."""
    own = torch.arange(label_ids.numel(), device=label_ids.device).view_as(label_ids) + first
    return torch.where(label_ids < 0, -1 - own, label_ids)


def _identity(x: Tensor) -> Tensor:
    return x
