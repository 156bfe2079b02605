"""Entropy over the similarity of segments and labels, SE (section 4.5, eq. 44 to 46).

    SE = over_labels * mean_g H(softmax_k(s_g . u_k)) + over_groups * mean_k H(softmax_g(s_g . u_k))

with the image's segments s and labels u, normalised; mean over images.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from regroup.model.constants import Padding
from regroup.objectives import Need, ObjectiveInputs
from regroup.objectives._reduce import entropy_terms, global_mean
from regroup.objectives._similarity import masked_softmax, segment_similarity
from regroup.settings import Settings

NEEDS = frozenset({Need.LABELS, Need.SEGMENTS})

OVER_LABELS, OVER_GROUPS = 0.2, 0.1
"""Weights of the two halves (eq. 46)."""

PUBLISHED_OFFSET = 1e-8
"""What the published code adds to a probability before its logarithm."""

Form = Literal["thesis", "published"]


class Options(Settings):
    """Weights of the two halves, and the form.

    `form`: `published` adds the same penalty for the caption as a set of one label, gives empty places the
    features that they are given, and has log(p + 1e-8) in the entropy.
    """

    form: Form = "thesis"
    over_labels: float = Field(default=OVER_LABELS, ge=0, le=1000)
    over_groups: float = Field(default=OVER_GROUPS, ge=0, le=1000)


def loss(inputs: ObjectiveInputs, options: Options) -> Tensor:
    """The penalty of a batch."""
    labels = inputs.labels
    return segment_entropy(
        inputs.segments,
        labels.features,
        present=labels.present,
        padding=inputs.padding,
        caption=inputs.caption if options.form == "published" else None,
        form=options.form,
        over_labels=options.over_labels,
        over_groups=options.over_groups,
    )


def segment_entropy(
    segments: Float[Tensor, "b g c"],
    labels: Float[Tensor, "b k c"],
    *,
    present: Bool[Tensor, "b k"] | None = None,
    padding: Padding = "null",
    caption: Float[Tensor, "b c"] | None = None,
    form: Form = "thesis",
    over_labels: float = OVER_LABELS,
    over_groups: float = OVER_GROUPS,
) -> Float[Tensor, ""]:
    """Entropy over the similarity of segments and labels, in nats.

    Args:
        segments: projected segments.
        labels: of each image; K may be 0, which gives 0 for this half.
        present: False at padding; None = no padding.
        padding: see `ObjectiveInputs`; there are no targets, so `denominator` is `null`. Images whose labels
            are all masked count in no mean.
        caption: adds the same penalty for the caption as a set of one label; None leaves it out.
        form: of the entropy and of empty places, see `Options`.
        over_labels, over_groups: weights of the halves.
    """
    extra = segments.sum() * 0
    if caption is not None:
        extra = segment_entropy(
            segments, caption[:, None], form=form, over_labels=over_labels, over_groups=over_groups
        )
    if labels.shape[1] == 0:
        return extra
    published = form == "published"
    similarity, valid = segment_similarity(segments, labels, present, padding, as_given=published)
    offset = PUBLISHED_OFFSET if published else 0.0
    of_labels = entropy_terms(masked_softmax(similarity, valid), offset).sum(2).mean(1)
    of_groups = entropy_terms(similarity.softmax(1), offset).sum(1)
    of_groups = torch.where(valid, of_groups, 0).sum(1) / valid.sum(1).clamp_min(1)
    return global_mean(over_labels * of_labels + over_groups * of_groups, valid.any(1)) + extra
