"""Loss and gradients of one batch, whatever the number of processes and of chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from regroup.errors import RegroupError
from regroup.model import Backbone
from regroup.model.collectives import rank, world_size
from regroup.model.dropout import Rows, place_rows, row_dropouts
from regroup.model.encoding import FirstStage, Noise, TowerOutput
from regroup.objectives import Need, ObjectiveInputs, TotalLoss, needs, total_loss, upcast
from regroup.training.data import CaptionBatch, Int64
from regroup.training.parallel import average_gradients, own_rows
from regroup.training.providers import Encoded, Sources, provide, start_teacher
from regroup.training.settings import FinetuneParams
from regroup.training.texts import KeptTexts
from regroup.variants import Variant

_FROM_ASSIGNMENTS = {Need.ATTENTION, Need.PATCHES}
"""What the image tower returns only when told to."""


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
        model: Backbone,
        texts: Texts,
        variant: Variant,
        settings: FinetuneParams,
        *,
        image_size: int,
        dino: nn.Module | None = None,
        heads: nn.ModuleDict | None = None,
        texts_kept: KeptTexts | None = None,
    ) -> None:
        """Prepare for batches.

        Args:
            model: on its device, in training mode, its frozen parts frozen.
            texts: of the batches, by their numbers.
            variant: the objectives and what they read.
            settings: chunks and precision.
            image_size: pixels of the square training image.
            dino: patch features for the objectives that distil them, called as `dino(pixels, grid)`.
            heads: modules that objectives use beside the model, on its device.
            texts_kept: features of the same texts that another run left, if the tower is frozen in both.
        """
        self._heads = nn.ModuleDict() if heads is None else heads
        everything = [*model.parameters(), *self._heads.parameters()]
        self.parameters = [parameter for parameter in everything if parameter.requires_grad]
        self._model, self._variant, self._size = model, variant, image_size
        self.device = model.device
        self._chunks = settings.chunks
        self._bf16 = settings.precision == "bf16"
        self._needs = needs(variant.objectives)
        self._text_tower = _TextTower(model, texts, texts_kept or KeptTexts())
        teacher = start_teacher(model) if Need.TEACHER in self._needs else None
        self._sources = Sources(model, texts.tokens, self._text_tower, self._autocast, teacher, dino)
        self._tower_drops = row_dropouts(model.image)
        self._projector_drops = row_dropouts(model.image_projector)
        self._text_drops = row_dropouts(model.text, model.text_projector)

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
        global_batch = torch.empty(1, device=self.device).expand(
            world_size() * share, 3, self._size, self._size
        )  # only its shape matters
        draws = 2 if Need.VIEW in self._needs else 1
        noises = [
            own_rows(self._model.draw_noise(global_batch, generator), share, rank() * share)
            for _ in range(draws)
        ]
        batch = batch.to(self.device, self._model.dtype)
        rows = Rows(generator.initial_seed(), len(global_batch), rank() * share)
        place_rows(self._projector_drops, rows)
        # a text has no place in the global batch: each process drops for its own
        place_rows(self._text_drops, Rows(rows.seed, stream=rank()))
        encoded = self._encode_texts(batch)

        def encode(first: int, count: int) -> list[TowerOutput]:
            """The image tower's outputs of so many images: of their views, of which there is mostly one."""
            place_rows(self._tower_drops, replace(rows, first=rows.first + first))
            views = [(batch.pixels, batch.first_stage_rows(first, count))]
            if batch.second_pixels is not None:
                views.append((batch.second_pixels, None))
            return [
                self._encode(pixels[first : first + count], own_rows(noise, count, first), known)
                for (pixels, known), noise in zip(views, noises, strict=True)
            ]

        if self._chunks == 1 or share == 1:
            result = self._loss(batch, encode(0, share), encoded)
            result.loss.backward()
        else:
            result = self._in_chunks(batch, encode, encoded)
        average_gradients(self.parameters)
        return result

    def _encode_texts(self, batch: CaptionBatch) -> Tensor:
        """The text tower's features of captions, labels and, where the run has them, empty places."""
        with self._autocast():
            features = self._text_tower(_caption_and_label_texts(batch))
            empty = int((batch.label_texts < 0).sum()) if self._variant.batch_norm.padding else 0
            return torch.cat([features, self._text_tower.of_zeros().expand(empty, -1)]) if empty else features

    def _encode(self, pixels: Tensor, noise: Noise, known: FirstStage | None) -> TowerOutput:
        with self._autocast():
            output = self._model.run_image_tower(
                pixels,
                noise,
                return_attention=bool(self._needs & _FROM_ASSIGNMENTS),
                first_stage=known,
            )
        return output if Need.PATCHES in self._needs else output._replace(patches=None)

    def _in_chunks(
        self, batch: CaptionBatch, encode: Callable[[int, int], list[TowerOutput]], texts: Tensor
    ) -> TotalLoss:
        """The image tower in parts, everything behind it on the whole (Gao et al. 2021, "GradCache").

        The tower runs without graph, part by part; projectors, batch norm and losses see all its outputs at
        once and say how each should change; then each part runs again, with graph, and passes that on. So the
        memory of one part is enough, for twice the tower's forward.
        """
        spans = list(_spans(len(batch.image_ids), self._chunks))
        with torch.no_grad():
            parts = [encode(*span) for span in spans]
        whole = [TowerOutput.joined(views) for views in zip(*parts, strict=True)]
        leaves = [tensor.requires_grad_() for output in whole for tensor in output.differentiable()]
        result = self._loss(batch, whole, texts)
        result.loss.backward()
        if not any(parameter.requires_grad for parameter in self._model.image.parameters()):
            return result
        for first, count in spans:
            again = [tensor for output in encode(first, count) for tensor in output.differentiable()]
            pairs = [
                (tensor, leaf.grad[first : first + count])
                for tensor, leaf in zip(again, leaves, strict=True)
                if tensor.requires_grad and leaf.grad is not None
            ]
            torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])
        return result

    def _loss(self, batch: CaptionBatch, towers: list[TowerOutput], texts: Tensor) -> TotalLoss:
        with self._autocast():
            segments = Need.SEGMENTS in self._needs or self._variant.batch_norm.segments
            image = self._model.project_image(towers[0], return_segments=segments)
            projected = upcast(self._model.text_projector(texts))
        caption, labels = _caption_and_labels(batch, projected)
        encoded = Encoded(batch, image, caption, labels, towers[1] if len(towers) > 1 else None)
        inputs = ObjectiveInputs(
            image=image.feature,
            caption=caption,
            padding=self._variant.labels.padding,
            logit_scale=self._model.logit_scale,
            multi_label_logit_scale=self._model.multi_label_logit_scale,
            given=provide(self._needs, self._sources, encoded),
            heads=dict(self._heads.items()),
        )
        result = total_loss(self._variant.objectives, inputs)
        if not result.loss.requires_grad:
            names = ", ".join(term.name for term in self._variant.objectives)
            raise RegroupError(
                f"objectives: {names}: nothing that this run trains changes the loss; train what it is made "
                "of, or give another objective"
            )
        return result

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16)


class _TextTower:
    """The text tower's features of a batch's captions and labels, from a cache while the tower is frozen."""

    def __init__(self, model: Backbone, texts: Texts, kept: KeptTexts) -> None:
        self._model, self._tokens = model, texts.tokens
        self._device = model.device
        frozen = not any(parameter.requires_grad for parameter in model.text.parameters())
        self._cache = kept.of(model.text, self._tower, texts.tokens, texts.text_count) if frozen else None
        self._of_zeros: Tensor | None = None

    def __call__(self, numbers: Int64) -> Tensor:
        """Features [N, width] of the texts numbered `numbers` [N]."""
        return self._cache(numbers) if self._cache is not None else self._tower(self._tokens(numbers))

    def of_zeros(self) -> Tensor:
        """The feature [1, width] of a text of zero tokens."""
        if self._cache is None:
            return self._model.text.feature_of_zeros()
        if self._of_zeros is None:
            with torch.no_grad():
                self._of_zeros = self._model.text.feature_of_zeros()
        return self._of_zeros

    def _tower(self, tokens: Tensor) -> Tensor:
        return self._model.encode_text_tower(tokens.to(self._device))


def _caption_and_label_texts(batch: CaptionBatch) -> Int64:
    """Numbers of a batch's texts: the captions, then the labels that there are, row by row."""
    return np.concatenate([batch.caption_texts, batch.label_texts[batch.label_texts >= 0]])


def _caption_and_labels(batch: CaptionBatch, projected: Tensor) -> tuple[Tensor, Tensor | None]:
    """Rows of `_encode_texts` apart: [B, C] and [B, K, C], zeros in empty places unless those come last."""
    size = len(batch.caption_texts)
    if batch.label_texts.shape[1] == 0:
        return projected[:size], None
    real: NDArray[np.bool_] = batch.label_texts >= 0
    labels = projected.new_zeros(*real.shape, projected.shape[-1])
    there = torch.from_numpy(real).to(projected.device)
    ends = size + int(real.sum())
    labels[there] = projected[size:ends]
    if len(projected) > ends:
        labels[~there] = projected[ends:]
    return projected[:size], labels


def _spans(count: int, parts: int) -> Iterator[tuple[int, int]]:
    """First row and length of at most `parts` parts, as even as can be."""
    for rows in np.array_split(np.arange(count), min(parts, count)):
        yield int(rows[0]), len(rows)
