"""Fine-tuning of one variant: the loop, top to bottom.

The frozen text tower's features come from a cache, the frozen head of the image tower runs without graph,
every random draw comes from (seed, step) or (seed, epoch, sample), and a killed run goes on from its last
saved state to the same bytes as one that was never killed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from regroup.errors import RegroupError
from regroup.model import GroupViT
from regroup.model.trainable import set_trainable
from regroup.objectives import ObjectiveInputs, needs, total_loss
from regroup.training.data import CaptionBatch, CaptionData
from regroup.training.plan import Plan
from regroup.training.schedule import learning_rate
from regroup.training.settings import FinetuneParams, OptimiserParams
from regroup.training.state import TrainingState, load_state
from regroup.training.texts import TextFeatures
from regroup.variants import Variant

Curve = list[dict[str, float]]


def finetune(
    model: GroupViT,
    data: CaptionData,
    variant: Variant,
    settings: FinetuneParams,
    plan: Plan,
    *,
    state: Path,
    inputs_digest: str,
    observe: Callable[[int, dict[str, float]], None] = lambda step, row: None,
    progress: bool = True,
) -> Curve:
    """Train `model` in place.

    Args:
        model: the pretrained model, its position embedding already resized to `plan.image_size`.
        data: captions, images and labels of the training split, batched as `plan` says.
        variant: what is trained, with which labels and objectives.
        settings: the profile's scale.
        plan: steps and sizes.
        state: folder of the state that a killed run resumes from; the caller forgets it when its outputs are
        written. inputs_digest: names the inputs; a state with another digest is not resumed from. observe:
        called with (step, metrics) every `settings.log_every` steps. progress: show a progress bar.

    Returns:
        One row every `settings.log_every` steps: step, epoch, learning_rate, gradient_norm, loss and every
        objective's own value, all means over the rows since the one before.

    Raises:
        RegroupError: the loss or its gradient is not finite; names the step and the images of the batch.
    """
    device = _device(settings)
    model.to(device).train()
    trainable = set_trainable(model, variant.trainable, frozen_batch_norm=settings.frozen_batch_norm)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = _optimiser(model, settings.optimiser)
    texts = _Texts(model, data, device)
    terms = [(term.name, term.weight, term.options) for term in variant.objectives]
    needed = needs(terms)
    if settings.compile:
        model.image.compile(dynamic=False)

    fingerprint = _fingerprint(variant, settings, plan, inputs_digest)
    curve: Curve = []
    done = 0
    if (saved := load_state(state, fingerprint)) is not None:
        model.load_state_dict(saved.model)
        optimiser.load_state_dict(saved.optimiser)
        curve, done = saved.curve, saved.step

    bar = tqdm(
        total=plan.steps,
        initial=done,
        unit="step",
        desc=f"{trainable:,} parameters",
        disable=None if progress else True,
    )
    recent: list[dict[str, float]] = []
    for step, batch in zip(range(done, plan.steps), data.batches(done), strict=False):
        generator = _generator(variant.seed, step, device)
        rate = learning_rate(step, plan.epoch_steps, settings.optimiser)
        for group in optimiser.param_groups:
            group["lr"] = rate

        pixels = batch.pixels.to(device, non_blocking=True)
        caption, labels = texts(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16"):
            image = model.encode_image(
                pixels,
                return_attention=needed.attention,
                return_segments=needed.segments,
                generator=generator,
            )
        inputs = ObjectiveInputs(
            image=image.feature,
            caption=caption,
            labels=labels,
            label_ids=None if labels is None else torch.from_numpy(batch.label_ids).to(device),
            padding=variant.labels.padding,
            segment_features=image.segment_features if needed.segments else None,
            attention=image.attention if needed.attention else None,
            logit_scale=model.logit_scale,
            multi_label_logit_scale=model.multi_label_logit_scale,
        )
        result = total_loss(terms, inputs)
        optimiser.zero_grad(set_to_none=True)
        result.loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(parameters, settings.optimiser.clip)
        row = {
            "learning_rate": rate,
            "gradient_norm": float(norm.detach()),
            "loss": float(result.loss.detach()),
            **result.metrics,
        }
        if not math.isfinite(row["loss"]) or not math.isfinite(row["gradient_norm"]):
            raise RegroupError(_divergence(step, row, batch, state))
        optimiser.step()

        recent.append(row)
        bar.update()
        if (step + 1) % settings.log_every == 0 or step + 1 == plan.steps:
            mean = {name: float(np.mean([row[name] for row in recent])) for name in row}
            curve.append({"step": step + 1, "epoch": (step + 1) / plan.epoch_steps, **mean})
            observe(step + 1, curve[-1])
            bar.set_postfix_str(f"loss {mean['loss']:.3f}")
            recent.clear()
        if (step + 1) % settings.save_every == 0 and step + 1 < plan.steps:
            TrainingState(fingerprint, step + 1, model.state_dict(), optimiser.state_dict(), curve).save(
                state
            )
    bar.close()
    model.eval()
    return curve


class _Texts:
    """Captions' and labels' features of a batch, projected together."""

    def __init__(self, model: GroupViT, data: CaptionData, device: torch.device) -> None:
        self._model = model
        self._data = data
        self._device = device
        frozen = not any(parameter.requires_grad for parameter in model.text.parameters())
        self._cache = TextFeatures(self._tower, data.tokens, data.text_count) if frozen else None

    def __call__(self, batch: CaptionBatch) -> tuple[Tensor, Tensor | None]:
        real = batch.label_texts >= 0
        numbers = np.concatenate([batch.caption_texts, batch.label_texts[real]])
        projected = self._model.text_projector(self._encode(numbers)).float()
        size = len(batch.caption_texts)
        caption = projected[:size]
        if batch.label_texts.shape[1] == 0:
            return caption, None
        labels = projected.new_zeros(*real.shape, projected.shape[-1])
        labels[torch.from_numpy(real).to(self._device)] = projected[size:]
        return caption, labels

    def _encode(self, numbers: NDArray[np.int64]) -> Tensor:
        return self._cache(numbers) if self._cache is not None else self._tower(self._data.tokens(numbers))

    def _tower(self, tokens: Tensor) -> Tensor:
        return self._model.encode_text_tower(tokens.to(self._device))


def _optimiser(model: GroupViT, settings: OptimiserParams) -> torch.optim.AdamW:
    """AdamW; parameters with one dimension or none (biases, norms, scales) are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in trained if parameter.ndim > 1],
            "weight_decay": settings.weight_decay,
        },
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps)


def _generator(seed: int, step: int, device: torch.device) -> torch.Generator:
    """The draws of one step (drop path, Gumbel noise), the same whether or not the run was resumed."""
    state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def _device(settings: FinetuneParams) -> torch.device:
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise RegroupError(
            "finetune.device: cuda is asked for, but torch sees no CUDA device; use auto or cpu"
        )
    use_cuda = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if use_cuda else "cpu")


def _fingerprint(variant: Variant, settings: FinetuneParams, plan: Plan, inputs_digest: str) -> str:
    science = variant.model_dump_json(exclude={"title", "rows"})
    text = "\n".join([science, settings.model_dump_json(), repr(plan), inputs_digest])
    return hashlib.sha256(text.encode()).hexdigest()


def _divergence(step: int, row: dict[str, float], batch: CaptionBatch, state: Path) -> str:
    images = ", ".join(str(number) for number in batch.image_ids[:16])
    return (
        f"training diverged at step {step}: loss {row['loss']}, gradient norm {row['gradient_norm']}; "
        f"images of the batch: {images}{', ...' if len(batch.image_ids) > 16 else ''}. "
        f"The last good state is in {state}; a lower finetune.optimiser.learning_rate is the usual remedy"
    )
