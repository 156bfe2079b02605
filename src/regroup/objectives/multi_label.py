"""Multi-label contrastive loss (section 4.3.2, eq. 26 to 28).

    image to labels: -1/B sum_i log( sum_k exp(z_i . u_ik / tau) / sum_jk exp(z_i . u_jk / tau) )    (eq. 26)
    labels to image: -1/(BK) sum_ik log( exp(u_ik . z_i / tau) / sum_j exp(u_ik . z_j / tau) )     (eq. 27)

with image features z and the K label features u of each image, normalised, of the batch of all ranks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from regroup.model.collectives import all_gather, rank
from regroup.model.constants import Padding
from regroup.objectives import Need, ObjectiveInputs
from regroup.objectives._contrast import Form, join, log_sum_exp, prepare_labels, target_mean
from regroup.objectives._reduce import inverse_temperature, normalise
from regroup.settings import Settings

NEEDS = frozenset({Need.LABELS})


class Options(Settings):
    """Which of the two forms.

    `form`: `published` shares an image's mass equally among its labels (soft targets) and takes the mean
    of both directions; `thesis` has the logarithm of the sum (eq. 26) and the sum of directions (eq. 28).
    """

    form: Form = "published"


def loss(inputs: ObjectiveInputs, options: Options) -> Tensor:
    """The loss of a batch."""
    labels, scale = inputs.labels, inputs.multi_label_logit_scale
    return multi_label_loss(
        inputs.image,
        labels.features,
        scale,
        present=labels.present,
        padding=inputs.padding,
        form=options.form,
    )


def multi_label_loss(
    image: Float[Tensor, "b c"],
    labels: Float[Tensor, "b k c"],
    logit_scale: Float[Tensor, ""],
    *,
    present: Bool[Tensor, "b k"] | None = None,
    padding: Padding = "null",
    form: Form = "published",
) -> Float[Tensor, ""]:
    """Multi-label contrastive loss over the batch of all ranks (eq. 26 to 28).

    Args:
        image: features, not normalised.
        labels: of each image; K may be 0, which gives 0.
        logit_scale: log of 1/tau.
        present: False at padding; None = no padding.
        padding: see `ObjectiveInputs`. An image whose labels are all masked counts in no mean.
        form: see `Options`.
    """
    if labels.shape[1] == 0:
        return image.sum() * 0
    image = normalise(image)
    labels, valid = prepare_labels(labels, present, padding)
    count, places = labels.shape[:2]
    scale = inverse_temperature(logit_scale)
    own = torch.arange(count, device=image.device) + rank() * count

    logits = scale * image @ all_gather(labels).flatten(0, 1).T
    gathered_valid = all_gather(valid).flatten() if padding == "mask" else None
    normaliser = log_sum_exp(logits, gathered_valid)
    positive = logits.view(count, -1, places)[torch.arange(count, device=image.device), own]
    if form == "thesis":
        numerator = log_sum_exp(positive, valid)
    else:
        numerator = torch.where(valid, positive, 0).sum(1) / valid.sum(1).clamp_min(1)
    image_to_text = target_mean(normaliser - numerator, valid.any(1), padding)

    logits = scale * labels.flatten(0, 1) @ all_gather(image).T
    text_to_image = F.cross_entropy(logits, own.repeat_interleave(places), reduction="none")
    return join(image_to_text, target_mean(text_to_image, valid.flatten(), padding), form)
