"""What an objective may read and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from regroup.captions.settings import Padding


@dataclass(frozen=True)
class ObjectiveInputs:
    """One rank's share of a batch: B images, K label places an image, G groups, L patches, C channels.

    Every rank must bring the same B and K. Features need not be normalised. What no objective of the variant
    reads may be None.

    Attributes:
        image: [B, C] image features.
        caption: [B, C] caption features.
        labels: [B, K, C] features of the labels, or None.
        label_ids: int64 [B, K], equal numbers for equal label strings, -1 where an image has fewer than K
            labels; None if there is no such place.
        padding: what stands where `label_ids` is -1 (sections 4.1 and 5.7).
            `caption`: the caller put the caption's features there; they count as a label of their own image.
            `null`: an embedding of zeros, whatever the caller put there; it takes part in every softmax.
            `mask`: nothing; the place is left out of numerators and denominators.
        segment_features: [B, G, C] projected segments.
        attention: [B, G, L] product of the soft assignments (eq. 34).
        logit_scale: log of the inverse temperature of the contrastive loss; its exponential is cut at 100.
        multi_label_logit_scale: the same for the losses over labels.
        dino: [B, L, D] self-supervised features of the same patches.
        heads: modules that are trained beside the model, by name (`regroup.heads`).
    """

    image: Tensor
    caption: Tensor
    logit_scale: Tensor
    multi_label_logit_scale: Tensor
    labels: Tensor | None = None
    label_ids: Tensor | None = None
    padding: Padding = "null"
    segment_features: Tensor | None = None
    attention: Tensor | None = None
    dino: Tensor | None = None
    heads: Mapping[str, nn.Module] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectiveResult:
    """Value of one objective.

    Attributes:
        loss: scalar with gradient, in float32. On several ranks its value is the whole batch's on each of
            them, and its gradients are right once averaged over ranks, as data-parallel training does.
        metrics: detached scalars worth logging.
    """

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
