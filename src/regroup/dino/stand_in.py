"""A stand-in for DINO: a tiny ViT, trained for seconds by self-distillation on a profile's own images.

As in DINO (section 3.2), a student learns to give the distribution over prototypes that its own moving
average, the teacher, gives for another view of the same image, centred and sharpened against collapse; no
label is read. Two things differ. The views are one crop in two lights, so that patches correspond and are
distilled too, not only the class token: that is what a few hundred steps can teach. And the head reads the
keys, because they are all that is kept. It says as little about DINO's own quality as the drawn images say
about photographs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regroup.dino.settings import StandInParams
from regroup.model.dino import DinoKeys

STUDENT_TEMPERATURE, TEACHER_TEMPERATURE = 0.1, 0.05
CENTRE_MOMENTUM = 0.9
CLIP = 3.0
WARMUP_STEPS = 40
_BOTTLENECK = 64


def train_stand_in(
    crops: Iterator[Tensor],
    params: StandInParams,
    *,
    observe: Callable[[int, dict[str, float]], None] = lambda step, row: None,
) -> DinoKeys:
    """Train the stand-in.

    Args:
        crops: at least `params.steps` batches, float32 [batch, 3, image_size, image_size], normalised.
        params: sizes, steps and seed; every draw but the crops' comes from the seed.
        observe: called with (step, {"loss": ...}) every 20 steps.

    Returns:
        The teacher, in evaluation mode.
    """
    generator = torch.Generator().manual_seed(params.seed)
    student = _Network(params, generator)
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimiser = torch.optim.AdamW(student.parameters(), weight_decay=params.weight_decay)
    centre = torch.zeros(2, 1, params.prototypes)
    for step, crop in zip(range(params.steps), crops, strict=False):
        views = torch.cat([_relight(crop, params.jitter, generator) for _ in range(2)])
        with torch.no_grad():
            logits = teacher(views.roll(len(crop), 0))  # each view's target is the other's
            target = torch.cat(
                [(part - middle) / TEACHER_TEMPERATURE for part, middle in _parts(logits, centre)], dim=1
            ).softmax(2)
            for part, middle in _parts(logits, centre):
                middle.lerp_(part.mean((0, 1)), 1 - CENTRE_MOMENTUM)
        loss = -(target * (student(views) / STUDENT_TEMPERATURE).log_softmax(2)).sum(2)
        total = loss[:, 0].mean() + loss[:, 1:].mean()
        for group in optimiser.param_groups:
            group["lr"] = params.learning_rate * _rate(step, params.steps)
        optimiser.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(student.parameters(), CLIP)
        optimiser.step()
        with torch.no_grad():
            for slow, fast in zip(teacher.parameters(), student.parameters(), strict=True):
                slow.lerp_(fast, 1 - params.momentum)
        if (step + 1) % 20 == 0:
            observe(step + 1, {"loss": float(total.detach())})
    return teacher.keys.eval()


class _Network(nn.Module):
    """The ViT, and a head from its keys to logits over prototypes, in [-1, 1]."""

    def __init__(self, params: StandInParams, generator: torch.Generator) -> None:
        super().__init__()
        width = params.width
        self.keys = DinoKeys(params.network)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, _BOTTLENECK))
        self.prototypes = nn.Parameter(torch.empty(params.prototypes, _BOTTLENECK))
        self._draw(generator)
        self.requires_grad_(True)

    @torch.no_grad()
    def _draw(self, generator: torch.Generator) -> None:
        for parameter in self.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.02, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
                module.bias.zero_()
        patches = self.keys.patch_embedding.weight
        patches.normal_(std=patches[0].numel() ** -0.5, generator=generator)

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of the class token and the patches: [B, 3, H, W] to [B, 1 + L, prototypes]."""
        hidden = self.head(self.keys.key(self.keys.norm(self.keys.tokens(pixels))))
        return F.linear(F.normalize(hidden, dim=-1), F.normalize(self.prototypes, dim=-1))


def _parts(logits: Tensor, centre: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Class token and patches, each with its own centre."""
    return [(logits[:, :1], centre[0]), (logits[:, 1:], centre[1])]


def _relight(crop: Tensor, jitter: float, generator: torch.Generator) -> Tensor:
    """The same images in another light: brightness, contrast and a tint, in units of ImageNet's deviation."""
    draws = torch.rand(len(crop), 5, 1, 1, generator=generator) * 2 - 1
    return crop * (1 + jitter * draws[:, :1]) + jitter * (draws[:, 1:2] + 0.2 * draws[:, 2:])


def _rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine to zero."""
    return min(1, (step + 1) / WARMUP_STEPS) * (1 + math.cos(math.pi * step / steps)) / 2
