"""Pretraining of the mini checkpoint in the drawn world; it stands in for web-scale data and may see masks.

GroupViT learns to group from tens of millions of captions. A few thousand drawn scenes teach a tiny one what
is in an image, but not where. So this stage adds the scenes' masks: the segment-to-text softmax, spread to
the patches by Attn (eq. 34), is compared with what the patches show. Fine-tuning and evaluation never see
masks, as in the study.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from regroup import backbones
from regroup.captions.tokens import tokenize
from regroup.io import write_bytes, write_json
from regroup.model.checkpoint import CONFIG, WEIGHTS
from regroup.model.groupvit import GroupViT
from regroup.model.interface import Backbone
from regroup.training.pretraining_losses import step_losses
from regroup.training.pretraining_texts import class_text, draw_candidates, known_texts
from regroup.training.settings import PretrainParams, PretrainPhase
from regroup.training.web import WebCorpus

Model = TypeVar("Model", bound=Backbone)


def pretrain(
    corpus: WebCorpus,
    params: PretrainParams,
    *,
    observe: Callable[[int, dict[str, float]], None] | None = None,
) -> Backbone:
    """Pretrain a model from random weights.

    Args:
        corpus: images, maps and captions.
        params: how, and the model's sizes.
        observe: called with the step and its losses, every 20 steps.

    Returns:
        The model in evaluation mode; its weights are exact in half precision.
    """
    state: dict[str, Tensor] | None = None
    done = 0
    for number, phase in enumerate(params.phases):
        model = _run_phase(corpus, params, number, state, done, observe)
        state = model.state_dict()
        done += phase.until or phase.steps
    return model.eval()


def _run_phase(
    corpus: WebCorpus,
    params: PretrainParams,
    number: int,
    state: dict[str, Tensor] | None,
    done: int,
    observe: Callable[[int, dict[str, float]], None] | None,
) -> Backbone:
    """One phase, from `state` or from random weights, `done` steps into the whole."""
    phase = params.phases[number]
    rng = np.random.default_rng(params.seed + number)
    noise = torch.Generator().manual_seed(params.seed + number)
    model = draw_model(params, noise)
    if model.text.config.compact:
        model.set_tokens(np.unique(tokenize([*known_texts(), *corpus.captions])).tolist())
    if state is not None:
        model.load_state_dict(state)
    model.train()
    warm_up_text(model, corpus, params, phase, rng)
    optimiser = _optimiser(model, params, phase)
    small = corpus.order(params.batch, rng)
    large = corpus.order(params.large_batch, rng)
    title = f"pretrain {number + 1} of {len(params.phases)}"
    for step in tqdm(range(phase.until or phase.steps), desc=title, unit="step", disable=None):
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(step, phase, params.warmup_steps)
        if step % params.large_every == params.large_every - 1:
            batch = corpus.batch(
                next(large).tolist(), params.large_size, model.patch_size, params.large_area, rng
            )
        else:
            batch = corpus.batch(next(small).tolist(), model.image_size, model.patch_size, params.area, rng)
        losses = step_losses(model, batch, draw_candidates(corpus.concepts, rng), params, rng, noise)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), params.clip)
        optimiser.step()
        if observe is not None and step % 20 == 19:
            observe(done + step + 1, {name: float(loss.detach()) for name, loss in losses.items()})
    return halve(model)


def draw_model(params: PretrainParams, generator: torch.Generator) -> Backbone:
    """The model with random weights.

    Raises:
        RegroupError: `params.backbone` names none that there is, or its sizes contradict each other.
    """
    if params.backbone is None:
        return scale_to_width(GroupViT(params.model, generator=generator))
    return backbones.make(backbones.config_from(params.backbone, source="pretrain.backbone"), generator)


def warm_up_text(
    model: Backbone,
    corpus: WebCorpus,
    params: PretrainParams,
    phase: PretrainPhase,
    rng: np.random.Generator,
) -> None:
    """Teach the text tower which words name which concept, from prompts and captions alone.

    All texts start with nearly the same feature, and while they have it the image tower has little to learn.
    A vector for each concept, thrown away afterwards, is the target: a text is to be close to those it names.
    """
    count = len(corpus.concepts)
    targets = nn.Parameter(torch.from_numpy(rng.standard_normal((count, model.config.joint_width))).float())
    weights = [targets, *model.text.parameters(), *model.text_projector.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=phase.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)
    named = [[i for i, c in enumerate(corpus.concepts) if c.named_in(text)] for text in corpus.captions]
    telling = [place for place, concepts in enumerate(named) if concepts]
    for _ in tqdm(range(phase.text_steps), desc="pretrain text", unit="step", disable=None):
        concepts = rng.integers(count, size=params.text_batch // 2)
        places = rng.choice(len(telling), size=params.text_batch - len(concepts))
        texts = [class_text(corpus.concepts[i], rng) for i in concepts]
        texts += [corpus.captions[telling[place]] for place in places]
        wanted = torch.zeros(len(texts), count)
        for row, ids in enumerate([*([i] for i in concepts), *(named[telling[place]] for place in places)]):
            wanted[row, ids] = 1 / len(ids)
        features = F.normalize(model.encode_text(torch.from_numpy(tokenize(texts))), dim=-1)
        logits = model.logit_scale.exp().detach() * features @ F.normalize(targets, dim=-1).T
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(logits, wanted).backward()
        optimiser.step()


@torch.no_grad()
def scale_to_width(model: GroupViT) -> GroupViT:
    """Redo the scale of the image side's initial weights for a narrow model.

    The usual deviation of 0.02 suits a width of 384. At a width of 96 it makes blocks that hardly change
    their input and learn slowly; here it becomes fan_in^-0.5, smaller where a block adds to its input.
    """
    depth = model.config.image.depth
    for part in (model.image, model.image_projector, model.text_projector):
        for name, layer in part.named_modules():
            if isinstance(layer, nn.Linear):
                adds = name.endswith(("attention.out", "mlp.down"))
                scale = (layer.in_features * (2 * depth if adds else 1)) ** -0.5
                layer.weight.mul_(scale / layer.weight.std())
    model.image.positions.mul_(10)
    return model


def halve(model: Model) -> Model:
    """Round all weights to half precision, in which they are stored."""
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
    return model


def save_half(model: Backbone, folder: Path) -> None:
    """Write a checkpoint folder with the weights in half precision; `load_checkpoint` reads it as float32."""
    state = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    halved = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    write_bytes(folder / WEIGHTS, save(halved, metadata={"format": "pt"}))
    write_json(folder / CONFIG, model.config.to_dict())


def _learning_rate(step: int, phase: PretrainPhase, warmup: int) -> float:
    if step < warmup:
        return phase.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, phase.steps - warmup)
    return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _optimiser(model: Backbone, params: PretrainParams, phase: PretrainPhase) -> torch.optim.AdamW:
    """AdamW without decay of biases, norms and scales."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": params.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=phase.learning_rate, betas=(0.9, 0.98))
