"""The features of a profile."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from regroup.captions.reader import CaptionReader
from regroup.captions.samples import ReaderBatch
from regroup.dino.settings import DinoParams
from regroup.dino.stand_in import train_stand_in
from regroup.model.dino import DinoKeys, load_dino
from regroup.training.augmentation import Augmentation
from regroup.training.settings import AugmentationSettings


def make_features(
    params: DinoParams,
    shards: Path,
    *,
    view: AugmentationSettings | None = None,
    observe: Callable[[int, dict[str, float]], None],
) -> DinoKeys:
    """Read the published weights, or train the stand-in on the images of `shards`.

    Args:
        params: which of the two.
        shards: output of the stage `shards`.
        view: how crops are taken; None: as `params` has it.
        observe: called with (step, metrics) now and then.

    Raises:
        RegroupError: the file is no DINO ViT or lacks the layer; no shards, or fewer images than a batch.
    """
    if params.kind == "file":
        return load_dino(params.path, layer=params.layer)
    settings = params.stand_in
    reader = CaptionReader(
        shards,
        seed=settings.seed,
        batch_size=settings.batch,
        drop_last=True,
        transform=Augmentation(settings.image_size, view or settings.view),
    )
    epochs = (reader.epoch(number) for number in itertools.count())
    return train_stand_in(map(_pixels, itertools.chain.from_iterable(epochs)), settings, observe=observe)


def _pixels(batch: ReaderBatch) -> Tensor:
    assert isinstance(batch.images, Tensor)  # what the transform makes
    return batch.images
