"""The running statistics that a run's checkpoint and snapshots have, where those are not what training left.

`recomputed` statistics are those of the rows that inference is like, under the final weights:

- image projector: the pooled feature of every image of the training split once, un-augmented (short side
  scaled to the training size, the middle cut out), since no scored image is ever augmented; and its segments
  where the run has `batch_norm.segments`, since segmentation projects both.
- text projector: every caption of the split once with the labels that the first epoch draws for it, in their
  templates, and its empty places where the run has `batch_norm.padding`. Class prompts are not used: which
  they are is known only when a model is scored.

Kinds of rows that pass one after the other count alike, whatever their number, as in the running statistics
of training: of pooled features and segments, the mean of both means and of both variances. Variances are
unbiased, as PyTorch's. Nothing is drawn, and nothing depends on the number of processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regroup.errors import RegroupError
from regroup.model import Backbone
from regroup.model.collectives import all_reduce_sum
from regroup.model.projector import Projector, SyncedBatchNorm, projectors
from regroup.training.settings import BatchNormSettings
from regroup.training.snapshots import NO_STATISTICS


class Split(Protocol):
    """This process's share of the training split; see `CaptionData`."""

    def plain_images(self) -> Iterator[Tensor]:
        """Un-augmented images [B, 3, size, size]."""

    def plain_texts(self) -> Iterator[tuple[NDArray[np.int64], int]]:
        """Numbers of texts, and how many empty places come with them."""

    def tokens(self, numbers: NDArray[np.int64], /) -> Tensor:
        """CLIP token ids int64 [N, T] of the texts numbered `numbers`."""


class Statistics:
    """What a checkpoint of a run has in place of its model's running statistics."""

    def __init__(self, model: Backbone, split: Split, settings: BatchNormSettings) -> None:
        """Remember what will be needed.

        Args:
            model: on its device, its frozen parts frozen, its running statistics still the pretrained ones.
            split: what `recomputed` statistics are computed over.
            settings: the run's.

        Raises:
            RegroupError: as for `check_batch_norm`.
        """
        check_batch_norm(model, settings)
        self._model, self._split, self._settings = model, split, settings
        self._last: tuple[int, Mapping[str, Tensor]] = (-1, NO_STATISTICS)
        own = projectors(model)
        self._pretrained = {
            f"{name}.norm.{key}": buffer.clone()
            for name, projector in own.items()
            if projector.frozen
            for key, buffer in projector.norm.named_buffers()
        }

    def after(self, step: int) -> Mapping[str, Tensor]:
        """Buffers, by the model's names, of a checkpoint of the model as it is after so many steps.

        Every process calls this.
        """
        if self._settings.statistics == "original":
            return self._pretrained
        if self._settings.statistics != "recomputed":
            return NO_STATISTICS
        if self._last[0] != step:
            settings = self._settings
            found = recomputed(self._model, self._split, segments=settings.segments, padding=settings.padding)
            self._last = (step, found)
        return self._last[1]

    @torch.no_grad()
    def finish(self, step: int) -> None:
        """Put the statistics of the last step into the model."""
        buffers = dict(self._model.named_buffers())
        for name, value in self.after(step).items():
            buffers[name].copy_(value)


def check_batch_norm(model: Backbone, settings: BatchNormSettings) -> None:
    """Refuse settings that would do nothing; `model` has its frozen parts frozen, and may be without numbers.

    Raises:
        RegroupError: they ask something of a batch norm, and the backbone has none; or of a frozen
            projector's, and the run trains all.
    """
    own = projectors(model)
    if not own and settings != BatchNormSettings():
        raise RegroupError(
            f"batch_norm: the backbone `{model.config.architecture}` has none; drop this key of the variant"
        )
    of_frozen = settings.statistics in ("held", "original")
    if of_frozen and not any(projector.frozen for projector in own.values()):
        raise RegroupError(
            f"batch_norm.statistics: `{settings.statistics}` is about frozen projectors, and this run trains "
            "both; say `batch` or `recomputed`"
        )


@torch.no_grad()
def recomputed(model: Backbone, split: Split, *, segments: bool, padding: bool) -> dict[str, Tensor]:
    """Running statistics of a model's projectors over the training split; see the module.

    Args:
        model: with its final weights; its own statistics and its mode stay as they are.
        split: this process's share.
        segments: whether segments count beside pooled features.
        padding: whether empty places count beside captions and labels.

    Returns:
        `<projector>.norm.running_mean` and `running_var`, of the buffers' type.
    """
    training = model.training
    model.eval()
    moments = {name: _Moments(projector.norm) for name, projector in projectors(model).items()}
    try:
        if isinstance(model.image_projector, Projector):
            for pixels in split.plain_images():
                tower = model.run_image_tower(pixels.to(model.device, model.dtype))
                with moments["image_projector"].watching():
                    model.project_image(tower, return_segments=segments)
        if isinstance(model.text_projector, Projector):
            zeros = model.text.feature_of_zeros()
            for numbers, empty in split.plain_texts():
                features = model.encode_text_tower(split.tokens(numbers).to(model.device))
                if padding:
                    features = torch.cat([features, zeros.expand(empty, -1)])
                with moments["text_projector"].watching():
                    model.text_projector(features)
    finally:
        model.train(training)
    return {
        f"{name}.norm.{key}": value
        for name, projector in projectors(model).items()
        for key, value in moments[name].statistics(1 + (segments and name == "image_projector")).items()
    }


class _Moments:
    """Sums over the rows that a batch norm reads, in float64, each kind of rows apart."""

    def __init__(self, norm: SyncedBatchNorm) -> None:
        self._norm = norm
        assert norm.running_mean is not None
        # kinds, then the number of rows, their sum and that of their squares
        self._sums = norm.running_mean.new_zeros(2, 1 + 2 * norm.num_features, dtype=torch.float64)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block, the first call of the norm is of the first kind, and so on."""
        kinds = iter(self._sums)

        def add(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
            rows = inputs[0].double()
            count = rows.new_full((1,), len(rows))
            next(kinds).add_(torch.cat([count, rows.sum(0), rows.square().sum(0)]))

        handle = self._norm.register_forward_pre_hook(add)
        try:
            yield
        finally:
            handle.remove()

    def statistics(self, kinds: int) -> dict[str, Tensor]:
        """Mean and unbiased variance of so many kinds, over all processes."""
        sums = all_reduce_sum(self._sums)[:kinds]
        count, (total, squares) = sums[:, :1], sums[:, 1:].chunk(2, dim=1)
        mean = total / count
        variance = (squares - count * mean.square()).clamp_min(0) / (count - 1).clamp_min(1)
        own = self._norm.running_mean
        assert own is not None
        return {"running_mean": mean.mean(0).to(own), "running_var": variance.mean(0).to(own)}
