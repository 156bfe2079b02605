"""Training batches of one run: augmented images, captions and drawn labels, each text known by its number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regroup.captions.labels import LABELS, read_vocabulary
from regroup.captions.reader import CaptionReader, ReadReport
from regroup.captions.sampling import LabelSampler
from regroup.captions.table import LabelTable
from regroup.io import sha256
from regroup.training.augmentation import Augmentation
from regroup.training.plan import Plan
from regroup.training.settings import FinetuneParams
from regroup.variants import LabelSettings, Variant

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class CaptionBatch:
    """B captioned images with K labels each.

    Attributes:
        pixels: float32 [B, 3, size, size], augmented and normalised.
        image_ids: int64 [B].
        caption_texts: int64 [B], the captions' numbers among all texts.
        label_ids: int64 [B, K], equal for equal strings, -1 where the caption has no further label.
        label_texts: int64 [B, K], numbers of the labels in their templates; -1 where there is no text.
    """

    pixels: Tensor
    image_ids: Int64
    caption_texts: Int64
    label_ids: Int64
    label_texts: Int64


class CaptionData:
    """The training split as one run sees it."""

    def __init__(
        self,
        table: LabelTable,
        vocabulary: Sequence[str] | None,
        shards: Path,
        variant: Variant,
        settings: FinetuneParams,
        plan: Plan,
    ) -> None:
        """Join shards and labels.

        Raises:
            RegroupError: the shards and the labels were made from different captions.
        """
        labels: LabelSettings = variant.labels
        self._reader = CaptionReader(
            shards,
            seed=variant.seed,
            batch_size=plan.batch,
            drop_last=True,
            transform=Augmentation(plan.image_size, settings.augmentation),
            workers=settings.workers,
            keep_decoded=settings.keep_decoded_mb * 2**20,
        )
        self._reader.check_labels(table)
        self._sampler = LabelSampler(
            table,
            source=labels.source,
            count=labels.count,
            padding=labels.padding,
            vocabulary=vocabulary,
            seed=variant.seed,
        )

    @classmethod
    def open(
        cls, captions: Path, shards: Path, variant: Variant, settings: FinetuneParams
    ) -> tuple[CaptionData, Plan]:
        """Open the outputs of the stages `nouns` and `shards`, and plan the run."""
        table = LabelTable.open(captions / LABELS)
        name = variant.labels.vocabulary
        vocabulary = None if name is None else read_vocabulary(captions, name)
        plan = Plan.of(variant, settings, len(table))
        return cls(table, vocabulary, shards, variant, settings, plan), plan

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

    def tokens(self, numbers: Int64) -> Tensor:
        """CLIP token ids int64 [N, T] of the texts numbered `numbers`."""
        return torch.from_numpy(self._sampler.tokens(numbers))

    def batches(self, start: int) -> Iterator[CaptionBatch]:
        """Endless batches from batch `start` of the run on: one pass over the captions after another."""
        epoch, first = divmod(start, len(self))
        while True:
            for batch in self._reader.epoch(epoch, start_batch=first):
                labels = self._sampler.sample(batch.rows, epoch)
                assert isinstance(batch.images, Tensor)  # what the transform makes
                yield CaptionBatch(
                    batch.images, batch.image_ids, labels.caption_texts, labels.label_ids, labels.label_texts
                )
            epoch, first = epoch + 1, 0


def inputs_digest(*folders: Path) -> str:
    """One digest over every file of the inputs: a run resumes only from a state of the same inputs."""
    digest = hashlib.sha256()
    for folder in folders:
        files = sorted(folder.rglob("*")) if folder.is_dir() else [folder]
        for file in files:
            if file.is_file():
                digest.update(f"{file.relative_to(folder)}\0{sha256(file)}\n".encode())
    return digest.hexdigest()
