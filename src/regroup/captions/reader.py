"""Training samples from shards: every caption is a sample, in an order that (seed, epoch) alone decides."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from regroup.captions.index import CAPTIONS, INDEX, SampleIndex, read_index
from regroup.captions.randomness import sample_keys
from regroup.captions.samples import DecodedImages, ReaderBatch, SampleLoader
from regroup.captions.store import REMOTE, open_store
from regroup.captions.table import Int64, LabelTable
from regroup.errors import RegroupError

OnBroken = Literal["replace", "error"]


@dataclass
class ReadReport:
    """What was read so far by one reader."""

    samples: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    broken_reads: int = 0

    def __str__(self) -> str:
        """One line, and one a broken file."""
        lines = [f"{self.samples} samples read, {self.broken_reads} reads of {len(self.broken)} broken files"]
        return "\n".join(lines + [f"  {name}: {reason}" for name, reason in sorted(self.broken.items())])


class CaptionReader:
    """Batches of (image, caption) samples from shards.

    Local shards are shuffled as a whole and read by offset. Remote shards are fetched whole: then the shards
    are shuffled, and samples are shuffled within groups of `shuffle_shards` shards, so that few lie on the
    disk at a time. Batch b of the epoch holds the same samples for any number of workers; with `world_size`
    ranks of `batch_size` it is the same global batch as with one rank of `world_size * batch_size`.
    """

    def __init__(
        self,
        index: Path,
        *,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        workers: int = 0,
        epoch_samples: int | None = None,
        drop_last: bool = False,
        decode: bool = True,
        transform: Callable[..., Any] | None = None,
        on_broken: OnBroken = "replace",
        shuffle_shards: int | None = None,
        keep_decoded: int | DecodedImages = 0,
        views: int | None = None,
    ) -> None:
        """Open an index.

        Args:
            index: `index.parquet` or its folder, where the shards are or a `remote.json` that says where.
            seed: of the order and of the samples' keys.
            batch_size: samples of a batch on this rank.
            rank, world_size: this process among those that share an epoch.
            workers: processes that read and decode; 0 works in this one.
            epoch_samples: an epoch is the first so many samples of its order; None takes all.
            drop_last: leave out the last, smaller batch, as training over several ranks needs. Otherwise it
                is shared out among the ranks as evenly as can be.
            decode: decode images; otherwise batches hold their bytes.
            transform: applied to the decoded images of a batch, in the workers, as
                `transform(images, keys=keys)`.
            on_broken: what follows an unreadable image: `replace` counts it and takes another sample, drawn
                from its key; `error` stops.
            shuffle_shards: see above; None means all shards for local ones, 16 for remote ones.
            keep_decoded: keep decoded images in memory, up to so many bytes; for `workers=0`, as workers
                forget them at the end of an epoch. Or `decoded` of another reader of this index: both then
                keep theirs together.
            views: an image comes with one of so many keys, in place of a new key for each sample.

        Raises:
            RegroupError: no index there, a local shard is missing, or there is no caption.
        """
        if not 0 <= rank < world_size:
            raise ValueError(f"rank {rank} of {world_size}")
        self.report = ReadReport()
        self.seed, self.batch_size, self.workers = seed, batch_size, workers
        self._rank, self._world_size, self._drop_last = rank, world_size, drop_last
        folder = index if index.is_dir() else index.parent
        table, self._source = read_index(folder / INDEX), str(folder / INDEX)
        remote = (folder / REMOTE).is_file()
        self._index = SampleIndex.of(table)
        if not len(self._index.image_of):
            raise RegroupError(f"{self._source}: none of its images has a caption")
        self._shuffle_shards = shuffle_shards or (16 if remote else len(self._index.shards))
        self.decoded = DecodedImages(keep_decoded) if isinstance(keep_decoded, int) else keep_decoded
        store = open_store(folder, table, keep=2 * self._shuffle_shards)
        self._file_names = table["file_name"]
        self._captions_digest = (table.schema.metadata or {}).get(CAPTIONS, b"").decode()
        self._loader = SampleLoader(
            self._index,
            store,
            decode=decode,
            transform=transform,
            replace=on_broken == "replace",
            decoded=self.decoded,
            seed=seed,
            views=views,
        )
        self._epoch_samples = min(epoch_samples or self.captions, self.captions)
        if len(self) == 0:
            raise RegroupError(f"{self._source}: {self._epoch_samples} samples do not fill one batch")

    @property
    def captions(self) -> int:
        """Number of captions, which is the number of samples."""
        return len(self._index.image_of)

    def __len__(self) -> int:
        """Batches of an epoch on this rank; the same on every rank."""
        size = self.batch_size * self._world_size
        return self._epoch_samples // size if self._drop_last else -(-self._epoch_samples // size)

    def check_labels(self, table: LabelTable) -> None:
        """Check that the rows of this index are the rows of `table`: the same ids, with the same texts.

        Raises:
            RegroupError: they were made from different captions.
        """
        if not self._captions_digest or table.captions_digest != self._captions_digest:
            raise RegroupError(
                f"{table.path}: its {len(table)} captions are not the {self.captions} captions of"
                f" {self._source}, to the letter; run the stages `shards` and `nouns` on the same source"
            )

    def order(self, epoch: int) -> Int64:
        """Caption rows of an epoch over all ranks, in the order they are read."""
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([self.seed, epoch])))
        shards = len(self._index.shards)
        order = generator.permutation(self.captions)
        if self._shuffle_shards < shards:
            group = np.empty(shards, dtype=np.int64)
            group[generator.permutation(shards)] = np.arange(shards) // self._shuffle_shards
            order = order[np.argsort(group[self._index.shard_of[self._index.image_of[order]]], kind="stable")]
        return order[: self._epoch_samples]

    def batch_rows(self, order: Int64, batch: int) -> Int64:
        """Rows of this rank's batch number `batch`, given the order of the epoch."""
        size = self.batch_size * self._world_size
        rows = order[batch * size : (batch + 1) * size]
        if len(rows) == size:
            return rows[self._rank * self.batch_size : (self._rank + 1) * self.batch_size]
        return np.array_split(rows, self._world_size)[self._rank]

    def epoch(self, epoch: int, start_batch: int = 0) -> Iterator[ReaderBatch]:
        """Batches of an epoch, from batch `start_batch` on (to resume).

        Raises:
            RegroupError: an unreadable image where `on_broken` is `error`; a shard that cannot be fetched.
        """
        order = self.order(epoch)
        load = partial(self._load, epoch, order)
        numbers = range(start_batch, len(self))
        for batch in map(load, numbers) if not self.workers else self._in_workers(load, numbers):
            self._count(batch)
            yield batch

    def each_image(self) -> Iterator[ReaderBatch]:
        """Every image that has a caption once, in the order of the shards, batch by batch among the ranks.

        Batch b is that of rank b % `world_size`; what a batch holds does not depend on how many there are.

        Raises:
            RegroupError: as for `epoch`.
        """
        first = np.unique(self._index.image_of, return_index=True)[1].astype(np.int64)
        load = partial(self._load_once, first)
        numbers = range(self._rank, -(-len(first) // self.batch_size), self._world_size)
        for batch in map(load, numbers) if not self.workers else self._in_workers(load, numbers):
            self._count(batch)
            yield batch

    def _load_once(self, rows: Int64, batch: int) -> ReaderBatch:
        own = rows[batch * self.batch_size : (batch + 1) * self.batch_size]
        return self._loader.load(own, sample_keys(self.seed, 0, own))

    def _load(self, epoch: int, order: Int64, batch: int) -> ReaderBatch:
        rows = self.batch_rows(order, batch)
        return self._loader.load(rows, sample_keys(self.seed, epoch, rows))

    def _in_workers(self, load: Callable[[int], ReaderBatch], numbers: range) -> Iterator[ReaderBatch]:
        from torch.utils.data import DataLoader  # only here: a reader without workers needs no torch

        with warnings.catch_warnings():
            # more workers than cores is the caller's choice
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            loader: DataLoader[Any] = DataLoader(
                _Batches(load),  # type: ignore[arg-type]  # all that a Dataset is, without torch
                batch_size=None,
                sampler=numbers,
                num_workers=self.workers,
                collate_fn=_same,
            )
            batches = iter(loader)
        for batch in batches:
            if isinstance(batch, RegroupError):
                raise batch
            yield batch

    def _count(self, batch: ReaderBatch) -> None:
        self.report.samples += len(batch.rows)
        self.report.broken_reads += len(batch.broken)
        for sample in batch.broken:
            self.report.broken.setdefault(self._file_names[sample.position].as_py(), sample.reason)


@dataclass(frozen=True)
class _Batches:
    """The batches of an epoch by number, as a data loader asks for them."""

    load: Callable[[int], ReaderBatch]

    def __getitem__(self, number: int) -> ReaderBatch | RegroupError:
        try:
            return self.load(number)
        except RegroupError as error:  # handed over whole; a loader would wrap its message in a traceback
            return error


def _same(batch: Any) -> Any:
    return batch
