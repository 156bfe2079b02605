"""Pretraining of the mini checkpoint in the drawn world; it stands in for web-scale data and may see masks.

GroupViT learns to group from tens of millions of captions. A few thousand drawn scenes teach a tiny one what
is in an image, but not where. So this stage adds the scenes' masks: the segment-to-text softmax, spread to
the patches by Attn (eq. 34), is compared with what the patches show. Fine-tuning and evaluation never see
masks, as in the study.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from regroup.captions.prompts import TRAINING_TEMPLATES, class_prompt, prompt
from regroup.captions.tokens import tokenize
from regroup.io import write_bytes, write_json
from regroup.model.checkpoint import CONFIG, WEIGHTS
from regroup.model.groupvit import GroupViT, ImageFeatures
from regroup.objectives.contrastive import contrastive_loss, noise_free_loss
from regroup.segmentation.protocols import load_protocol
from regroup.segmentation.settings import ProtocolName
from regroup.sources.mini.grammar import words
from regroup.training.settings import PretrainParams
from regroup.training.web import Concept, WebBatch, WebCorpus


def known_texts() -> tuple[str, ...]:
    """Texts whose words a compact text tower knows: the drawn world's captions, prompts of all classes."""
    names = {name for protocol in get_args(ProtocolName) for name in load_protocol(protocol).classes}
    templates = [prompt("", template) for template in range(len(TRAINING_TEMPLATES))]
    return (*words(), *(class_prompt(name) for name in sorted(names)), *templates)


@dataclass(frozen=True)
class Candidates:
    """The classes that one step asks for: concept ids, one text each, and whether they are stuff."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    stuff: tuple[bool, ...]


def pretrain(
    corpus: WebCorpus,
    params: PretrainParams,
    *,
    observe: Callable[[int, dict[str, float]], None] | None = None,
) -> GroupViT:
    """Pretrain a model from random weights.

    Args:
        corpus: images, maps and captions.
        params: how; `params.model` is the model's shape.
        observe: called with the step and its losses, every 20 steps.

    Returns:
        The model in evaluation mode; its weights are exact in half precision.
    """
    rng = np.random.default_rng(params.seed)
    noise = torch.Generator().manual_seed(params.seed)
    model = GroupViT(params.model, generator=noise)
    if params.model.text.compact:
        model.set_tokens(np.unique(tokenize([*known_texts(), *corpus.captions])).tolist())
    model.train()
    optimiser = _optimiser(model, params)
    patch = params.model.image.patch_size
    small = corpus.order(params.batch, rng)
    large = corpus.order(params.large_batch, rng)
    for step in tqdm(range(params.steps), desc="pretrain", unit="step", disable=None):
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(step, params)
        if step % params.large_every == params.large_every - 1:
            batch = corpus.batch(next(large).tolist(), params.large_size, patch, params.large_area, rng)
        else:
            batch = corpus.batch(next(small).tolist(), params.model.image.image_size, patch, params.area, rng)
        losses = step_losses(model, batch, draw_candidates(corpus.concepts, rng), params, rng, noise)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), params.clip)
        optimiser.step()
        if observe is not None and step % 20 == 19:
            observe(step + 1, {name: float(loss.detach()) for name, loss in losses.items()})
    return halve(model.eval())


def step_losses(
    model: GroupViT,
    batch: WebBatch,
    candidates: Candidates,
    params: PretrainParams,
    rng: np.random.Generator,
    noise: torch.Generator,
) -> dict[str, Tensor]:
    """The weighted losses of one batch: `contrastive`, `multi_label`, `image`, `patch`."""
    features = model.encode_image(batch.pixels, return_attention=True, return_segments=False, generator=noise)
    label_texts, label_ids = draw_labels(batch.nouns, params.labels, rng)
    texts = [*batch.captions, *label_texts, *candidates.texts]
    encoded = model.encode_text(torch.from_numpy(tokenize(texts)))
    count = len(batch.captions)
    caption, labels, classes = torch.split(encoded, [count, len(label_texts), len(candidates.texts)])
    wanted = batch.coverage[..., list(candidates.ids)]
    weights = torch.tensor([params.stuff_weight if stuff else 1.0 for stuff in candidates.stuff])
    return {
        "contrastive": contrastive_loss(features.feature, caption, model.logit_scale),
        "multi_label": noise_free_loss(
            features.feature,
            labels.view(count, params.labels, -1),
            label_ids,
            model.multi_label_logit_scale,
            padding="mask",
        ),
        "image": params.class_weight * image_loss(features.feature, classes, model.logit_scale, wanted),
        "patch": params.mask_weight
        * patch_loss(model, features, classes, wanted, weights, params.background_weight),
    }


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


def patch_loss(
    model: GroupViT,
    features: ImageFeatures,
    classes: Tensor,
    wanted: Tensor,
    class_weights: Tensor,
    background_weight: float,
) -> Tensor:
    """Cross-entropy of the patches' class distributions, Attn^T softmax(segments to texts).

    The target of a patch is the share of each class among its pixels; pixels of no class share their mass
    among all classes alike, so that the model is unsure there, which is how background is found (eq. 37).

    Args:
        model: for the projector and the temperature. The batch norm keeps its running statistics here: in
            fine-tuning too they come from whole-image features alone, and inference reads segments with them.
        features: with segments and attention.
        classes: [N, C] text features.
        wanted: [B, L, N] share of each class in each patch.
        class_weights: [N] weight of a pixel of each class in its patch's weight.
        background_weight: likewise of a pixel of no class.
    """
    norm = model.image_projector.norm
    norm.eval()
    segments = model.image_projector(features.segments)
    norm.train(model.training)
    scale = model.logit_scale.exp().clamp(max=100)
    scores = (scale * F.normalize(segments, dim=-1) @ F.normalize(classes, dim=-1).T).softmax(dim=-1)
    predicted = features.attention.transpose(1, 2) @ scores
    labelled = wanted.sum(dim=-1)
    target = wanted + ((1 - labelled) / wanted.shape[-1])[..., None]
    loss = -(target * predicted.clamp_min(1e-6).log()).sum(dim=-1)
    weight = wanted @ class_weights + (1 - labelled) * background_weight
    return (weight * loss).sum() / weight.sum()


def draw_candidates(concepts: Sequence[Concept], rng: np.random.Generator) -> Candidates:
    """The classes to ask for: everything, all things, or some things; what is not asked for is background."""
    things = [i for i, concept in enumerate(concepts) if not concept.stuff]
    choice = rng.random()
    if choice < 0.35:
        ids = list(range(len(concepts)))
    elif choice < 0.65:
        ids = things
    else:
        few = rng.permutation(len(things))[: int(rng.integers(len(things) // 4, len(things)))]
        ids = sorted(things[i] for i in few)
    texts = []
    for i in ids:
        name = concepts[i].names[int(rng.integers(len(concepts[i].names)))]
        template = int(rng.integers(2 * len(TRAINING_TEMPLATES)))
        texts.append(prompt(name, template) if template < len(TRAINING_TEMPLATES) else class_prompt(name))
    return Candidates(tuple(ids), tuple(texts), tuple(concepts[i].stuff for i in ids))


def draw_labels(
    nouns: Sequence[Sequence[str]], count: int, rng: np.random.Generator
) -> tuple[list[str], Tensor]:
    """`count` different nouns of each caption in random templates; their ids [B, count], -1 at padding."""
    numbers: dict[str, int] = {}
    texts, ids = [], torch.full((len(nouns), count), -1)
    for row, found in enumerate(nouns):
        distinct = list(dict.fromkeys(found))
        for place, index in enumerate(rng.permutation(len(distinct))[:count]):
            ids[row, place] = numbers.setdefault(distinct[index], len(numbers))
            texts.append(prompt(distinct[index], int(rng.integers(len(TRAINING_TEMPLATES)))))
        texts += [""] * (count - min(count, len(distinct)))
    return texts, ids


def halve(model: GroupViT) -> GroupViT:
    """Round all weights to half precision, in which they are stored."""
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
    return model


def save_half(model: GroupViT, folder: Path) -> None:
    """Write a checkpoint folder with the weights in half precision; `load_checkpoint` reads it as float32."""
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    halved = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    write_bytes(folder / WEIGHTS, save(halved, metadata={"format": "pt"}))
    write_json(folder / CONFIG, model.config.to_dict())


def _learning_rate(step: int, params: PretrainParams) -> float:
    if step < params.warmup_steps:
        return params.learning_rate * (step + 1) / params.warmup_steps
    done = (step - params.warmup_steps) / max(1, params.steps - params.warmup_steps)
    return params.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _optimiser(model: GroupViT, params: PretrainParams) -> torch.optim.AdamW:
    """AdamW without decay of biases, norms and scales."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": params.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=params.learning_rate, betas=(0.9, 0.98))
