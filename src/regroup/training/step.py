"""Loss and gradients of one batch, whatever the number of processes and of chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regroup.model import GroupViT
from regroup.model.collectives import rank, world_size
from regroup.model.image import TowerOutput
from regroup.objectives import ObjectiveInputs, TotalLoss, needs, total_loss
from regroup.objectives.reduce import wide
from regroup.training.data import CaptionBatch, Int64
from regroup.training.parallel import average_gradients, own_rows
from regroup.training.settings import FinetuneParams
from regroup.training.texts import TextFeatures
from regroup.variants import Variant


class Texts(Protocol):
    """Texts by number."""

    @property
    def text_count(self) -> int:
        """How many there are."""

    def tokens(self, numbers: Int64, /) -> Tensor:
        """CLIP token ids int64 [N, T] of the texts numbered `numbers`."""


class TrainingStep:
    """Computes gradients of a model for one batch after another."""

    def __init__(
        self,
        model: GroupViT,
        texts: Texts,
        variant: Variant,
        settings: FinetuneParams,
        *,
        image_size: int,
        dino: nn.Module | None = None,
    ) -> None:
        """Prepare for batches.

        Args:
            model: on its device, in training mode, its frozen parts frozen.
            texts: of the batches, by their numbers.
            variant: the objectives and what they read.
            settings: chunks and precision.
            image_size: pixels of the square training image.
            dino: patch features for the objectives that distil them, called as `dino(pixels, grid)`.
        """
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._model, self._variant, self._size = model, variant, image_size
        self._device = model.logit_scale.device
        self._chunks = settings.chunks
        self._bf16 = settings.precision == "bf16"
        self._terms = [(term.name, term.weight, term.options) for term in variant.objectives]
        self._needs = needs(self._terms)
        self._dino = dino if self._needs.dino else None
        self._texts = _TextTower(model, texts)

    def __call__(self, batch: CaptionBatch, generator: torch.Generator) -> TotalLoss:
        """Set the gradients of the trained parameters to those of the whole batch of all processes.

        Args:
            batch: this process's share.
            generator: source of drop path and Gumbel noise, in the same state in every process.

        Returns:
            The loss and its terms, over the whole batch.
        """
        for parameter in self.parameters:
            parameter.grad = None
        share = len(batch.image_ids)
        everyone = torch.empty(1, device=self._device).expand(
            world_size() * share, 3, self._size, self._size
        )  # only its shape matters
        noise = own_rows(self._model.draw_noise(everyone, generator), share, rank() * share)
        batch = batch.to(self._device, self._model.logit_scale.dtype)
        with self._autocast():
            encoded = self._texts(batch)

        def encode(first: int, count: int) -> TowerOutput:
            with self._autocast():
                pixels = batch.pixels[first : first + count]
                output: TowerOutput = self._model.image(
                    pixels,
                    own_rows(noise, count, first),
                    return_attention=self._needs.attention,
                    stage_two_tokens=self._features(self._model.stage_two, pixels),
                    first_stage=batch.first_stage_rows(first, count),
                )
                return output

        if self._chunks == 1 or share == 1:
            result = self._loss(batch, encode(0, share), encoded)
            result.loss.backward()
        else:
            result = self._in_chunks(batch, encode, encoded)
        average_gradients(self.parameters)
        return result

    def _in_chunks(
        self, batch: CaptionBatch, encode: Callable[[int, int], TowerOutput], texts: Tensor
    ) -> TotalLoss:
        """The image tower in parts, everything behind it on the whole (Gao et al. 2021, "GradCache").

        The tower runs without graph, part by part; projectors, batch norm and losses see all its outputs at
        once and say how each should change; then each part runs again, with graph, and passes that on. So the
        memory of one part is enough, for twice the tower's forward.
        """
        spans = list(_spans(len(batch.image_ids), self._chunks))
        with torch.no_grad():
            outputs = [encode(*span) for span in spans]
        whole = _joined(outputs)
        leaves = [tensor.requires_grad_() for tensor in (whole.segments, *whole.soft)]
        result = self._loss(batch, whole, texts)
        result.loss.backward()
        if not any(parameter.requires_grad for parameter in self._model.image.parameters()):
            return result
        for first, count in spans:
            part = encode(first, count)
            pairs = [
                (tensor, leaf.grad[first : first + count])
                for tensor, leaf in zip((part.segments, *part.soft), leaves, strict=True)
                if tensor.requires_grad and leaf.grad is not None
            ]
            torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])
        return result

    def _loss(self, batch: CaptionBatch, tower: TowerOutput, texts: Tensor) -> TotalLoss:
        with self._autocast():
            image = self._model.project_image(tower, return_segments=self._needs.segments)
            projected = wide(self._model.text_projector(texts))
        caption, labels = _caption_and_labels(batch, projected)
        inputs = ObjectiveInputs(
            image=image.feature,
            caption=caption,
            labels=labels,
            label_ids=None if labels is None else torch.from_numpy(batch.label_ids).to(self._device),
            padding=self._variant.labels.padding,
            segment_features=image.segment_features if self._needs.segments else None,
            attention=image.attention if self._needs.attention else None,
            logit_scale=self._model.logit_scale,
            multi_label_logit_scale=self._model.multi_label_logit_scale,
            dino=self._features(self._dino, batch.pixels),
        )
        return total_loss(self._terms, inputs)

    def _features(self, network: nn.Module | None, pixels: Tensor) -> Tensor | None:
        """A self-supervised network's features of the image tower's patches."""
        if network is None:
            return None
        features: Tensor = network(pixels, self._model.image.patch_grid(pixels))
        return features

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16)


class _TextTower:
    """The text tower's features of a batch's captions and labels, from a cache while the tower is frozen."""

    def __init__(self, model: GroupViT, texts: Texts) -> None:
        self._model, self._tokens = model, texts.tokens
        self._device = model.logit_scale.device
        frozen = not any(parameter.requires_grad for parameter in model.text.parameters())
        self._cache = TextFeatures(self._tower, texts.tokens, texts.text_count) if frozen else None

    def __call__(self, batch: CaptionBatch) -> Tensor:
        """Features [B + labels, width]: the captions, then the labels that there are, row by row."""
        numbers = np.concatenate([batch.caption_texts, batch.label_texts[batch.label_texts >= 0]])
        return self._cache(numbers) if self._cache is not None else self._tower(self._tokens(numbers))

    def _tower(self, tokens: Tensor) -> Tensor:
        return self._model.encode_text_tower(tokens.to(self._device))


def _caption_and_labels(batch: CaptionBatch, projected: Tensor) -> tuple[Tensor, Tensor | None]:
    """Rows as `_TextTower` orders them, taken apart: [B, C] and [B, K, C], zeros where there is no label."""
    size = len(batch.caption_texts)
    if batch.label_texts.shape[1] == 0:
        return projected[:size], None
    real: NDArray[np.bool_] = batch.label_texts >= 0
    labels = projected.new_zeros(*real.shape, projected.shape[-1])
    labels[torch.from_numpy(real).to(projected.device)] = projected[size:]
    return projected[:size], labels


def _spans(count: int, parts: int) -> Iterator[tuple[int, int]]:
    """First row and length of at most `parts` parts, as even as can be."""
    for rows in np.array_split(np.arange(count), min(parts, count)):
        yield int(rows[0]), len(rows)


def _joined(outputs: list[TowerOutput]) -> TowerOutput:
    """Outputs of the parts of a batch as one."""
    soft = tuple(torch.cat(parts) for parts in zip(*(output.soft for output in outputs), strict=True))
    return TowerOutput(torch.cat([output.segments for output in outputs]), soft, (), None)
