"""Entropy of patches over the image's own labels, LE (section 4.5, eq. 41 to 43).

P = A^T softmax_k(s . u)     with A = Attn (eq. 34), segments s, labels u
LE = 1/(BL) sum_b sum_l sum_k -P_blk log P_blk
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor

from regroup.model.constants import Padding
from regroup.objectives import Need, ObjectiveInputs
from regroup.objectives._reduce import entropy_terms, global_mean, upcast
from regroup.objectives._similarity import masked_softmax, segment_similarity
from regroup.settings import Settings

NEEDS = frozenset({Need.LABELS, Need.ATTENTION, Need.SEGMENTS})

Form = Literal["thesis", "published"]


class Options(Settings):
    """Which of the two forms.

    `form`: `published` applies a softmax over groups to the attention and one over labels to the product,
    and takes the mean over labels in place of the sum; empty places have the features that they are given.
    """

    form: Form = "thesis"


def loss(inputs: ObjectiveInputs, options: Options) -> Tensor:
    """The penalty of a batch."""
    labels = inputs.labels
    return label_entropy(
        inputs.attention,
        inputs.segments,
        labels.features,
        present=labels.present,
        padding=inputs.padding,
        form=options.form,
    )


def label_entropy(
    attention: Float[Tensor, "b g l"],
    segments: Float[Tensor, "b g c"],
    labels: Float[Tensor, "b k c"],
    *,
    present: Bool[Tensor, "b k"] | None = None,
    padding: Padding = "null",
    form: Form = "thesis",
) -> Float[Tensor, ""]:
    """Entropy of patches over the image's own labels in nats, between 0 and log K.

    Args:
        attention: a distribution over G for each patch (eq. 34).
        segments: projected segments.
        labels: of each image; K may be 0, which gives 0.
        present: False at padding; None = no padding.
        padding: see `ObjectiveInputs`; a label of zeros has similarity 0 to every segment, and there are no
            targets, so `denominator` is `null`. Images whose labels are all masked count in no mean.
        form: see `Options`.
    """
    if labels.shape[1] == 0:
        return segments.sum() * 0
    similarity, valid = segment_similarity(segments, labels, present, padding, as_given=form == "published")
    attention = upcast(attention)
    if form == "published":
        attention = attention.softmax(1)
    probability = attention.transpose(1, 2) @ masked_softmax(similarity, valid)
    if form == "published":
        probability = masked_softmax(probability, valid)
    entropy = entropy_terms(probability).sum(2).mean(1)
    if form == "published":
        entropy = entropy / valid.sum(1).clamp_min(1)
    return global_mean(entropy, valid.any(1))
