"""How long a run will take and how much memory it needs, from a few steps on made-up batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regroup.adaptation import adapt
from regroup.heads import build_heads
from regroup.model import Backbone
from regroup.model.constants import END_OF_TEXT, START_OF_TEXT
from regroup.objectives import Need, needs
from regroup.training.data import CaptionBatch
from regroup.training.plan import Plan
from regroup.training.settings import FinetuneParams
from regroup.training.step import TrainingStep
from regroup.variants import Variant

WARM_UP, MEASURED = 1, 2
_TEXTS = 512
_WORDS = 8
"""Tokens of a made-up text, without start and end: about as many as a caption has."""


@dataclass(frozen=True)
class Measurement:
    """One step of a run, on this device.

    Attributes:
        seconds: of a step of the run's batch, without reading images.
        memory: bytes at the peak: measured on a GPU; elsewhere parameters, gradients, moments and what the
            graph of a step keeps, counted.
    """

    seconds: float
    memory: int


class MadeUpTexts:
    """Stands in for `CaptionData` where only its texts are asked for."""

    text_count = _TEXTS

    def tokens(self, numbers: NDArray[np.int64], /) -> Tensor:
        """Token ids of made-up texts: int64 [N, 10]."""
        words = (numbers[:, None] * 31 + np.arange(_WORDS) * 17) % 40_000 + 300
        ends = np.ones((len(numbers), 1), dtype=np.int64)
        return torch.from_numpy(np.hstack([ends * START_OF_TEXT, words, ends * END_OF_TEXT]))


def measure(
    model: Backbone,
    variant: Variant,
    settings: FinetuneParams,
    plan: Plan,
    *,
    device: torch.device,
    images: int,
    dino: nn.Module | None = None,
) -> Measurement:
    """Time a training step of `variant` and scale it to its batch.

    Args:
        model: what the run starts from; it is trained for a few steps.
        variant: the run.
        settings: the profile's scale.
        plan: its batch and image size.
        device: where it will run.
        images: images a measured step; time, and memory beyond the parameters', grow with the images.
        dino: patch features, for a run that distils them.
    """
    images = min(images, plan.batch)
    adapt(model, variant.adapt, seed=variant.seed, held_statistics=variant.batch_norm.statistics == "held")
    heads = build_heads(model.config, variant.heads, seed=variant.seed)
    model.to(device).train()
    heads.to(device).train()
    step = TrainingStep(
        model, MadeUpTexts(), variant, settings, image_size=plan.image_size, dino=dino, heads=heads
    )
    optimiser = torch.optim.AdamW(step.parameters, lr=0.0)
    batch = _batch(variant, images, plan.image_size)

    def once(seed: int) -> None:
        step(batch, torch.Generator(device).manual_seed(seed))
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for seed in range(WARM_UP):
        once(seed)
    fixed = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    fixed += 3 * sum(parameter.numel() * parameter.element_size() for parameter in step.parameters)
    with peak_memory(device, fixed=fixed) as peak:
        began = time.perf_counter()
        for seed in range(MEASURED):
            once(seed)
        seconds = (time.perf_counter() - began) / MEASURED
    scale = plan.batch / images
    return Measurement(seconds * scale, round(fixed + (peak() - fixed) * scale))


def _batch(variant: Variant, images: int, size: int) -> CaptionBatch:
    needed = needs(variant.objectives)
    count = 0 if variant.labels.source == "none" else variant.labels.count
    generator = np.random.default_rng(0)
    pixels = torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(0))
    ids = generator.integers(0, _TEXTS // 2, (images, count))
    captions = np.arange(images) % (_TEXTS // 2)
    return CaptionBatch(
        pixels,
        np.arange(images),
        captions,
        label_ids=ids,
        label_texts=_TEXTS // 2 + ids,
        second_pixels=pixels if Need.VIEW in needed else None,
        caption_sets=captions[:, None] if Need.CAPTIONS in needed else None,
    )


@contextmanager
def peak_memory(device: torch.device, *, fixed: int) -> Iterator[Callable[[], int]]:
    """Within the block, watch memory; what is yielded tells the peak in bytes.

    Off a GPU that is `fixed` plus the most that the graph held at a time.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device)
        return
    alive = largest = 0

    class Kept:
        """Stands for a saved tensor, and counts for as long as the graph holds it."""

        def __init__(self, tensor: Tensor) -> None:
            nonlocal alive, largest
            self.tensor = tensor
            self.bytes = tensor.numel() * tensor.element_size()
            alive += self.bytes
            largest = max(largest, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= self.bytes

    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        yield lambda: fixed + largest
