"""Image-caption contrastive loss (section 4.3.1, eq. 23 to 25).

    image to text: -1/B sum_i log( exp(z_i . t_i / tau) / sum_j exp(z_i . t_j / tau) )   (eq. 23)
    text to image: -1/B sum_i log( exp(t_i . z_i / tau) / sum_j exp(t_i . z_j / tau) )   (eq. 24)

with image features z and caption features t, normalised, of the batch of all ranks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from regroup.model.collectives import all_gather, rank
from regroup.objectives import ObjectiveInputs
from regroup.objectives._contrast import Form, join
from regroup.objectives._reduce import global_mean, inverse_temperature, normalise
from regroup.settings import Settings


class Options(Settings):
    """`form`: `published` is the mean of both directions, `thesis` their sum (eq. 25)."""

    form: Form = "published"


def loss(inputs: ObjectiveInputs, options: Options) -> Tensor:
    """The loss of a batch."""
    return contrastive_loss(inputs.image, inputs.caption, inputs.logit_scale, form=options.form)


def contrastive_loss(
    image: Float[Tensor, "b c"],
    caption: Float[Tensor, "b c"],
    logit_scale: Float[Tensor, ""],
    *,
    form: Form = "published",
) -> Float[Tensor, ""]:
    """Image-caption contrastive loss over the batch of all ranks (eq. 23 to 25).

    Args:
        image: features, not normalised.
        caption: row i belongs to image i.
        logit_scale: log of 1/tau.
        form: see `Options`.
    """
    image, caption = normalise(image), normalise(caption)
    scale = inverse_temperature(logit_scale)
    own = torch.arange(len(image), device=image.device) + rank() * len(image)
    image_to_text = F.cross_entropy(scale * image @ all_gather(caption).T, own, reduction="none")
    text_to_image = F.cross_entropy(scale * caption @ all_gather(image).T, own, reduction="none")
    return join(global_mean(image_to_text), global_mean(text_to_image), form)
