"""Training batches of one run: augmented images, captions and drawn labels, each text known by its number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regroup.captions.randomness import UInt64, combine
from regroup.captions.reader import CaptionReader, ReadReport
from regroup.captions.sampling import LabelSampler
from regroup.captions.table import LABELS, LabelTable, read_vocabulary
from regroup.io import sha256
from regroup.model.collectives import rank, world_size
from regroup.model.encoding import FirstStage
from regroup.model.interface import Backbone
from regroup.objectives import Need, needs
from regroup.pictures import Pixels
from regroup.training.augmentation import Augmentation
from regroup.training.parallel import share_of
from regroup.training.plan import Plan
from regroup.training.settings import FinetuneParams
from regroup.training.views import KeptFirstStages, PlainViews
from regroup.variants import LabelSettings, Variant

Int64 = NDArray[np.int64]

_SECOND_VIEW = 1  # the draw of a second view, beside that of the first
_PLAIN_IMAGES, _PLAIN_TEXTS = 64, 256  # images, and captions, at a time


@dataclass(frozen=True)
class CaptionBatch:
    """B captioned images with K labels each.

    Attributes:
        pixels: float32 [B, 3, size, size], augmented and normalised; empty where `first_stage` is known.
        image_ids: int64 [B].
        caption_texts: int64 [B], the captions' numbers among all texts.
        label_ids: int64 [B, K], equal for equal strings, -1 where the caption has no further label.
        label_texts: int64 [B, K], numbers of the labels in their templates; -1 where there is no text.
        first_stage: what the frozen part of the image tower made of the pixels, or None.
        second_pixels: as `pixels`, a second view of each image; None where nothing reads it.
        caption_sets: int64 [B, M], numbers of all captions of each image, then -1; None likewise.
    """

    pixels: Tensor
    image_ids: Int64
    caption_texts: Int64
    label_ids: Int64
    label_texts: Int64
    first_stage: FirstStage | None = None
    second_pixels: Tensor | None = None
    caption_sets: Int64 | None = None

    def to(self, device: torch.device, dtype: torch.dtype) -> CaptionBatch:
        """The batch with its images on a device, as numbers of the model's type."""
        images: list[Tensor] = [self.pixels, *(self.first_stage or ())]
        pixels, *first = (image.to(device, dtype, non_blocking=True) for image in images)
        second = self.second_pixels
        return replace(
            self,
            pixels=pixels,
            first_stage=FirstStage(*first) if first else None,
            second_pixels=None if second is None else second.to(device, dtype, non_blocking=True),
        )

    def first_stage_rows(self, first: int, count: int) -> FirstStage | None:
        """`first_stage` of so many images from the first given."""
        if self.first_stage is None:
            return None
        return FirstStage(*(part[first : first + count] for part in self.first_stage))


class _Made(NamedTuple):
    """What a reader's transform makes of the images of a batch."""

    view: Tensor | FirstStage
    second: Tensor | None


class _Views:
    """Augments images, on demand twice; or, once told how, goes on to the first view's first stages."""

    def __init__(self, augment: Augmentation, *, second: bool) -> None:
        self.make: Augmentation | KeptFirstStages = augment
        self._augment, self._second = augment, second

    def __call__(self, images: Sequence[Pixels], *, keys: UInt64) -> _Made:
        second = self._augment(images, keys=combine(keys, _SECOND_VIEW)) if self._second else None
        return _Made(self.make(images, keys=keys), second)


class CaptionData:
    """The training split as one run sees it."""

    _reader: CaptionReader
    _sampler: LabelSampler
    _sets: _CaptionsOfImages | None

    def __init__(
        self,
        table: LabelTable,
        vocabulary: Sequence[str] | None,
        shards: Path,
        variant: Variant,
        settings: FinetuneParams,
        plan: Plan,
        *,
        like: CaptionData | None = None,
    ) -> None:
        """Join shards and labels, for this process's share of every batch.

        With `like`, the same split for a run that differs in its seed, what both read is there once.

        Raises:
            RegroupError: the shards and the labels were made from different captions, or the batch cannot be
                shared out evenly.
        """
        labels: LabelSettings = variant.labels
        self._made_of = (table, vocabulary, shards, settings, plan)
        self._seed = variant.seed
        self._augmentation = Augmentation(plan.image_size, settings.augmentation)
        needed = needs(variant.objectives)
        self._views = _Views(self._augmentation, second=Need.VIEW in needed)
        self._reader = CaptionReader(
            shards,
            seed=variant.seed,
            batch_size=share_of(plan.batch),
            rank=rank(),
            world_size=world_size(),
            drop_last=True,
            transform=self._views,
            workers=settings.workers,
            keep_decoded=settings.keep_decoded_mb * 2**20 if like is None else like._reader.decoded,
            views=settings.views,
        )
        if like is not None:
            self._sampler, self._sets = like._sampler.of_seed(variant.seed), like._sets
            self._reader.report = like.report
            return
        self._reader.check_labels(table)
        self._sampler = LabelSampler(
            table,
            source=labels.source,
            count=labels.count,
            padding=labels.padding,
            vocabulary=vocabulary,
            fallback=labels.fallback,
            seed=variant.seed,
        )
        self._sets = _CaptionsOfImages(table.image_ids) if Need.CAPTIONS in needed else None

    @classmethod
    def open(
        cls,
        captions: Path,
        shards: Path,
        variant: Variant,
        settings: FinetuneParams,
        *,
        mapped: Path | None = None,
    ) -> tuple[CaptionData, Plan]:
        """Open the outputs of the stages `nouns` and `shards`, and plan the run.

        With `mapped`, the processes of a machine share one copy of the labels, see `LabelTable.open`.
        """
        table = LabelTable.open(captions / LABELS, mapped=mapped)
        name = variant.labels.vocabulary
        vocabulary = None if name is None else read_vocabulary(captions, name)
        plan = Plan.of(variant, settings, len(table))
        return cls(table, vocabulary, shards, variant, settings, plan), plan

    def of_seed(self, variant: Variant) -> CaptionData:
        """The split as the run of another seed sees it; both read into one memory, and into one report."""
        table, vocabulary, shards, settings, plan = self._made_of
        return CaptionData(table, vocabulary, shards, variant, settings, plan, like=self)

    def __len__(self) -> int:
        """Batches of one pass over the captions."""
        return len(self._reader)

    @property
    def text_count(self) -> int:
        """How many texts have numbers: every caption, and every label in every template."""
        return self._sampler.text_count

    @property
    def report(self) -> ReadReport:
        """What was read so far, broken samples included."""
        return self._reader.report

    def keep_first_stages(self, model: Backbone, *, room: int) -> None:
        """From now on, batches bring first stages in place of pixels; see `KeptFirstStages`."""
        self._views.make = KeptFirstStages(self._augmentation, model, room=room)

    def tokens(self, numbers: Int64) -> Tensor:
        """CLIP token ids int64 [N, T] of the texts numbered `numbers`."""
        return torch.from_numpy(self._sampler.tokens(numbers))

    def plain_images(self) -> Iterator[Tensor]:
        """Every image of the split once, un-augmented, in batches shared among the processes.

        Float32 [at most 64, 3, size, size], normalised; which images a batch holds depends on nothing else.
        """
        _, _, shards, settings, _ = self._made_of
        reader = CaptionReader(
            shards,
            seed=self._seed,
            batch_size=_PLAIN_IMAGES,
            rank=rank(),
            world_size=world_size(),
            transform=PlainViews(self._augmentation.size),
            workers=settings.workers,
        )
        for batch in reader.each_image():
            pixels: Any = batch.images  # what the transform makes
            yield pixels

    def plain_texts(self) -> Iterator[tuple[Int64, int]]:
        """Every caption once, with the labels that the run's first epoch draws for it, likewise shared.

        Numbers of the texts of some captions, and how many empty places those have.
        """
        starts = range(0, len(self._sampler.table), _PLAIN_TEXTS)[rank() :: world_size()]
        for start in starts:
            rows = np.arange(start, min(start + _PLAIN_TEXTS, len(self._sampler.table)))
            labels = self._sampler.sample(rows, 0)
            real = labels.label_texts >= 0
            yield np.concatenate([labels.caption_texts, labels.label_texts[real]]), int((~real).sum())

    def batches(self, start: int) -> Iterator[CaptionBatch]:
        """Endless batches from batch `start` of the run on: one pass over the captions after another."""
        epoch, first = divmod(start, len(self))
        while True:
            for batch in self._reader.epoch(epoch, start_batch=first):
                labels = self._sampler.sample(batch.rows, epoch)
                made: Any = batch.images  # what the transform makes
                view, second = made
                yield CaptionBatch(
                    torch.empty(0) if isinstance(view, FirstStage) else view,
                    batch.image_ids,
                    labels.caption_texts,
                    labels.label_ids,
                    labels.label_texts,
                    view if isinstance(view, FirstStage) else None,
                    second,
                    None if self._sets is None else self._sets(batch.image_ids),
                )
            epoch, first = epoch + 1, 0


class _CaptionsOfImages:
    """The rows of all captions of an image; rows are sorted by image."""

    def __init__(self, image_ids: Int64) -> None:
        self._ids = image_ids
        self._most = int(np.unique(image_ids, return_counts=True)[1].max())

    def __call__(self, images: Int64) -> Int64:
        """Rows int64 [B, M] for image ids [B], -1 after an image's last."""
        rows = np.searchsorted(self._ids, images)[:, None] + np.arange(self._most)
        inside = np.minimum(rows, len(self._ids) - 1)
        return np.where((rows == inside) & (self._ids[inside] == images[:, None]), rows, -1)


def inputs_digest(*folders: Path) -> str:
    """One digest over every file of the inputs: a run resumes only from a state of the same inputs."""
    digest = hashlib.sha256()
    for folder in folders:
        files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        for file in files:
            if file.is_file():
                digest.update(f"{file.relative_to(folder)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()
