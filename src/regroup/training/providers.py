"""What objectives may ask for, and how a training step computes it: one provider for each `Need`.

A step computes a need only where an objective of the run declares it. Those that come of the image tower are
read from its outputs, so that they work in chunks too; the others may run a network of their own here.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from regroup.model import Backbone
from regroup.model.encoding import ImageEncoding, TowerOutput
from regroup.model.text import cut_tokens, text_lengths
from regroup.objectives import CaptionSets, Labels, Need, TeacherOutputs, TokenStates, upcast
from regroup.training.data import CaptionBatch, Int64


@dataclass(frozen=True)
class Sources:
    """What a run computes with.

    Attributes:
        model: the trained one.
        tokens: token ids of texts by number.
        text_tower: the text tower's features of texts by number, from a cache where it is frozen.
        autocast: the run's precision, for the model's own networks.
        teacher: the model as it was at the start, frozen; None where no objective has one.
        dino: self-supervised features, called as `dino(pixels, grid)`; None where no objective reads them.
    """

    model: Backbone
    tokens: Callable[[Int64], Tensor]
    text_tower: Callable[[Int64], Tensor]
    autocast: Callable[[], AbstractContextManager[Any]]
    teacher: Backbone | None = None
    dino: nn.Module | None = None


@dataclass(frozen=True)
class Encoded:
    """One batch of a run, seen by both towers.

    Attributes:
        batch: on the device.
        image: features of the augmented images.
        caption: [B, C].
        labels: [B, K, C]; what stands where there is no label, see `Labels`. None for a run without labels.
        view: the image tower's output of the second view, where it was asked for.
    """

    batch: CaptionBatch
    image: ImageEncoding
    caption: Tensor
    labels: Tensor | None
    view: TowerOutput | None = None


@dataclass(frozen=True)
class Provider:
    """How a need is computed, and whether from the pixels, which a run that keeps first stages lacks."""

    compute: Callable[[Sources, Encoded], Any]
    reads_pixels: bool = False


def provide(needs: Collection[Need], sources: Sources, encoded: Encoded) -> dict[Need, Any]:
    """What the objectives of a run read of one batch; always in the same order."""
    return {need: PROVIDERS[need].compute(sources, encoded) for need in Need if need in needs}


def read_pixels(needs: Collection[Need]) -> bool:
    """Whether one of them is computed from the pixels."""
    return any(PROVIDERS[need].reads_pixels for need in needs)


def start_teacher(model: Backbone) -> Backbone:
    """A frozen copy of the model as it is now."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def _labels(sources: Sources, encoded: Encoded) -> Labels:
    assert encoded.labels is not None, "`check_plugins` refuses a run without labels"
    return Labels(encoded.labels, torch.from_numpy(encoded.batch.label_ids).to(encoded.labels.device))


def _segments(sources: Sources, encoded: Encoded) -> Tensor:
    return encoded.image.segment_features


def _attention(sources: Sources, encoded: Encoded) -> Tensor:
    return encoded.image.attention


def _patches(sources: Sources, encoded: Encoded) -> Tensor:
    assert encoded.image.patches is not None
    return encoded.image.patches


def _dino(sources: Sources, encoded: Encoded) -> Tensor:
    assert sources.dino is not None
    pixels = encoded.batch.pixels
    features: Tensor = sources.dino(pixels, sources.model.patch_grid(pixels))
    return features


def _tokens(sources: Sources, encoded: Encoded) -> TokenStates:
    ids = cut_tokens(sources.tokens(encoded.batch.caption_texts).to(encoded.caption.device))
    places = torch.arange(ids.shape[1], device=ids.device)
    with sources.autocast():
        states = upcast(sources.model.text.states(ids))
    return TokenStates(ids, states, places < text_lengths(ids)[:, None])


def _captions(sources: Sources, encoded: Encoded) -> CaptionSets:
    """The projector's batch norm sees them as one more batch, as it does segments."""
    numbers = encoded.batch.caption_sets
    assert numbers is not None
    real = numbers >= 0
    with sources.autocast():
        projected = upcast(sources.model.text_projector(sources.text_tower(numbers[real])))
    features = projected.new_zeros(*numbers.shape, projected.shape[-1])
    features[torch.from_numpy(real).to(projected.device)] = projected
    return CaptionSets(features, torch.from_numpy(numbers).to(projected.device))


def _view(sources: Sources, encoded: Encoded) -> Tensor:
    assert encoded.view is not None
    with sources.autocast():
        return sources.model.project_image(encoded.view, return_segments=False).feature


@torch.no_grad()
def _teacher(sources: Sources, encoded: Encoded) -> TeacherOutputs:
    assert sources.teacher is not None
    tokens = sources.tokens(encoded.batch.caption_texts).to(encoded.caption.device)
    with sources.autocast():
        image = sources.teacher.encode_image(encoded.batch.pixels, return_attention=True)
        caption = sources.teacher.encode_text(tokens)
    assert image.patches is not None
    return TeacherOutputs(image.feature, caption, image.segment_features, image.attention, image.patches)


PROVIDERS: Mapping[Need, Provider] = {
    Need.LABELS: Provider(_labels),
    Need.SEGMENTS: Provider(_segments),
    Need.ATTENTION: Provider(_attention),
    Need.PATCHES: Provider(_patches),
    Need.DINO: Provider(_dino, reads_pixels=True),
    Need.TOKENS: Provider(_tokens),
    Need.CAPTIONS: Provider(_captions),
    Need.VIEW: Provider(_view),
    Need.TEACHER: Provider(_teacher, reads_pixels=True),
}
