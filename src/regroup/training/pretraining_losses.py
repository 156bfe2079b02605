"""The losses of a pretraining step: captions, labels, and masks at the image, its patches and its tokens."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from regroup.captions.tokens import tokenize
from regroup.model.groupvit import GroupViT
from regroup.model.interface import Backbone
from regroup.model.projector import Projector
from regroup.objectives.contrastive import contrastive_loss
from regroup.objectives.noise_free import noise_free_loss
from regroup.training.pretraining_texts import Candidates, draw_labels
from regroup.training.settings import PretrainParams
from regroup.training.web import WebBatch


def step_losses(
    model: Backbone,
    batch: WebBatch,
    candidates: Candidates,
    params: PretrainParams,
    rng: np.random.Generator,
    noise: torch.Generator,
) -> dict[str, Tensor]:
    """The losses of one batch, to be summed: `contrastive`, `multi_label`, `image`, `patch`, `token`.

    A backbone without groups has no `token`: its patches are its segments.
    """
    features = model.encode_image(batch.pixels, return_attention=True, return_segments=False, generator=noise)
    label_texts, label_ids = draw_labels(batch.nouns, params.labels, rng)
    texts = [*batch.captions, *label_texts, *candidates.texts]
    encoded = model.encode_text(torch.from_numpy(tokenize(texts)))
    count = len(batch.captions)
    caption, labels, classes = torch.split(encoded, [count, len(label_texts), len(candidates.texts)])
    wanted = batch.coverage[..., list(candidates.ids)]
    weights = torch.tensor([params.stuff_weight if stuff else 1.0 for stuff in candidates.stuff])
    scores = class_scores(model, features.segments, classes)
    if isinstance(model, GroupViT):
        assert features.patches is not None
        scores = features.attention.transpose(1, 2) @ scores
        tokens = class_scores(model, model.image.norm(features.patches), classes)
    losses = {
        "contrastive": contrastive_loss(features.feature, caption, model.logit_scale),
        "multi_label": noise_free_loss(
            features.feature,
            labels.view(count, params.labels, -1),
            label_ids,
            model.multi_label_logit_scale,
            padding="mask",
        ),
        "image": params.class_weight * image_loss(features.feature, classes, model.logit_scale, wanted),
        "patch": params.mask_weight * patch_loss(scores, wanted, weights, params.background_weight),
    }
    if isinstance(model, GroupViT):
        losses["token"] = params.token_weight * patch_loss(tokens, wanted, weights, params.background_weight)
    return losses


def image_loss(feature: Tensor, classes: Tensor, logit_scale: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of the image's class distribution against the classes that it shows, all alike.

    Args:
        feature: [B, C]; `classes`: [N, C]; neither normalised.
        logit_scale: log of 1/tau, a scalar.
        wanted: [B, L, N] share of each class in each patch. Images that show none do not count.
    """
    shown = (wanted.mean(dim=1) > 0.004).float()
    logits = logit_scale.exp().clamp(max=100) * F.normalize(feature, dim=-1) @ F.normalize(classes, dim=-1).T
    loss = -(shown * logits.log_softmax(dim=-1)).sum(dim=-1) / shown.sum(dim=-1).clamp_min(1)
    return loss.sum() / (shown.sum(dim=-1) > 0).sum().clamp_min(1)


def class_scores(model: Backbone, tokens: Tensor, classes: Tensor) -> Tensor:
    """Class distributions [B, T, N] of image tokens [B, T, width] over texts [N, C], as inference has them.

    The projector's batch norm keeps its running statistics here: in fine-tuning too they come from the
    features of whole images alone, and inference reads segments with them.
    """
    projector = model.image_projector
    norm = projector.norm if isinstance(projector, Projector) else None
    if norm is not None:
        norm.eval()
    projected = F.normalize(projector(tokens), dim=-1)
    if norm is not None:
        norm.train(model.training)
    scale = model.logit_scale.exp().clamp(max=100)
    return (scale * projected @ F.normalize(classes, dim=-1).T).softmax(dim=-1)


def patch_loss(predicted: Tensor, wanted: Tensor, class_weights: Tensor, background_weight: float) -> Tensor:
    """Cross-entropy of the patches' class distributions against what the patches show.

    The target of a patch is the share of each class among its pixels; pixels of no class share their mass
    among all classes alike, so that the model is unsure there, which is how background is found (eq. 37).

    Args:
        predicted: [B, L, N] distributions.
        wanted: [B, L, N] share of each class in each patch.
        class_weights: [N] weight of a pixel of each class in its patch's weight.
        background_weight: likewise of a pixel of no class.
    """
    labelled = wanted.sum(dim=-1)
    target = wanted + ((1 - labelled) / wanted.shape[-1])[..., None]
    loss = -(target * predicted.clamp_min(1e-6).log()).sum(dim=-1)
    weight = wanted @ class_weights + (1 - labelled) * background_weight
    return (weight * loss).sum() / weight.sum()
