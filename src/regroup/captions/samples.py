"""Batches of decoded images from the bytes of shards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from regroup.captions.images import decode_rgb
from regroup.captions.index import SampleIndex
from regroup.captions.randomness import UInt64, combine, view_keys
from regroup.captions.store import ShardStore
from regroup.captions.table import Int64
from regroup.errors import RegroupError
from regroup.pictures import BrokenImageError, Pixels

Images = list[Pixels] | list[bytes] | Any
_MAX_REPLACEMENTS = 100


@dataclass(frozen=True)
class BrokenSample:
    """An image that could not be read: its place in the index, and why."""

    position: int
    reason: str


@dataclass(frozen=True)
class ReaderBatch:
    """B samples.

    Attributes:
        images: what `transform` made of them, else uint8 arrays [height, width, 3], else encoded bytes.
        rows: int64 [B], caption rows in `labels.parquet`.
        image_ids: int64 [B].
        keys: uint64 [B], `sample_keys(seed, epoch, rows)`: what the sample's random draws are made from.
        broken: samples met on the way that could not be read; another sample stands in for each.
    """

    images: Images
    rows: Int64
    image_ids: Int64
    keys: UInt64
    broken: tuple[BrokenSample, ...]


@dataclass
class DecodedImages:
    """Decoded images that are kept, by their places in the index; `room` is what is left, in bytes."""

    room: int
    kept: dict[int, Pixels] = field(default_factory=dict)


class SampleLoader:
    """Reads and decodes batches; lives in the workers."""

    def __init__(
        self,
        index: SampleIndex,
        store: ShardStore,
        *,
        decode: bool,
        transform: Callable[..., Any] | None,
        replace: bool,
        decoded: DecodedImages,
        seed: int,
        views: int | None,
    ) -> None:
        """See `CaptionReader` for the arguments."""
        self._index, self._store = index, store
        self._decode, self._transform, self._replace = decode, transform, replace
        self._decoded = decoded
        self._seed, self._views = seed, views

    def load(self, rows: Int64, keys: UInt64) -> ReaderBatch:
        """The batch of these caption rows.

        Raises:
            RegroupError: an image cannot be read and no other may stand in for it.
        """
        rows, keys = rows.copy(), keys.copy()
        images, broken = [], []
        for index in range(len(rows)):
            for attempt in range(_MAX_REPLACEMENTS):
                position = int(self._index.image_of[rows[index]])
                try:
                    images.append(self._read(position))
                    break
                except BrokenImageError as error:
                    broken.append(BrokenSample(position, str(error)))
                    if not self._replace or attempt == _MAX_REPLACEMENTS - 1:
                        raise RegroupError(self._explain(position, str(error))) from None
                    keys[index] = combine(keys[index], attempt)
                    rows[index] = int(keys[index] % np.uint64(len(self._index.image_of)))
        image_ids = self._index.image_ids[self._index.image_of[rows]]
        result: Images = images
        if self._transform is not None:
            few = self._views
            own = keys if few is None else view_keys(self._seed, image_ids, keys, few)
            result = self._transform(images, keys=own)
        return ReaderBatch(result, rows, image_ids, keys, tuple(broken))

    def _read(self, position: int) -> Any:
        if (kept := self._decoded.kept.get(position)) is not None:
            return kept
        size = int(self._index.sizes[position])
        shard = self._index.shards[self._index.shard_of[position]]
        content = self._store.read(shard, int(self._index.offsets[position]), size)
        if len(content) < size:
            raise BrokenImageError(f"{shard} is cut short: {len(content)} of {size} bytes")
        if not self._decode:
            return content
        pixels = decode_rgb(content)
        if pixels.nbytes <= self._decoded.room:
            self._decoded.room -= pixels.nbytes
            self._decoded.kept[position] = pixels
        return pixels

    def _explain(self, position: int, reason: str) -> str:
        shard = self._index.shards[self._index.shard_of[position]]
        return (
            f"{shard}: image {int(self._index.image_ids[position])} cannot be read: {reason};"
            " `regroup shards verify` tells whether the shard is damaged"
        )
