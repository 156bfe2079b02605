"""A dataset of a profile, resolved once for all who score it: protocol, prompts, threshold, images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regroup.errors import RegroupError
from regroup.pictures import Ids
from regroup.segmentation.images import read_image, scale_image
from regroup.segmentation.layouts import LAYOUTS, Sample
from regroup.segmentation.protocols import ClassPrompts, Protocol, load_protocol
from regroup.segmentation.settings import DatasetParams, InferenceParams
from regroup.sources.mini.names import drawn_names, drawn_stuff

READERS = 2
"""Threads that read and scale images while the model works."""

Read = TypeVar("Read")
Change = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]


@dataclass(frozen=True)
class ResolvedDataset:
    """What is scored.

    Attributes:
        name: as the profile calls it.
        protocol: classes, and how images and masks lie.
        prompts: what may be predicted.
        threshold: of background, 0..1; without a background it does nothing.
        root: folder with the layout of the dataset's own archive.
        split: `train` or `val`.
        limit: only the first so many images; None: all.
        names: `all`, or `drawn`: those of the mini world.
        change: what is done to an image (RGB [H, W, 3], and the sample's number) before it is scaled.
    """

    name: str
    protocol: Protocol
    prompts: ClassPrompts
    threshold: float
    root: Path
    split: str = "val"
    limit: int | None = None
    names: str = "all"
    change: Change | None = None

    @cached_property
    def samples(self) -> tuple[Sample, ...]:
        """The images, checked to exist with their masks; errors as `find_samples`."""
        return tuple(find_samples(self.protocol, self.root, self.split, self.limit))

    def on(self, split: str) -> ResolvedDataset:
        """The same on another split."""
        return self if split == self.split else replace(self, split=split)

    def changed(self, change: Change) -> ResolvedDataset:
        """The same images with something done to each."""
        other = replace(self, change=change)
        other.__dict__["samples"] = self.samples  # listed once
        return other

    def read(self, number: int, params: InferenceParams | None = None) -> tuple[Ids, NDArray[np.uint8]]:
        """Mask [H, W] and RGB image [h, w, 3] of a sample, pixels as they are stored.

        Args:
            number: of the sample.
            params: the size that the image, not the mask, is scaled to; None: it stays as it is.

        Raises:
            RegroupError: either is broken, or they do not fit each other.
        """
        image = self.read_image(number)
        mask = self.read_mask(number, (image.shape[0], image.shape[1]))
        return mask, image if params is None else scale_image(image, params)

    def read_image(self, number: int) -> NDArray[np.uint8]:
        """RGB image [H, W, 3] of a sample, pixels as they are stored, then changed; errors as `read`."""
        # the orientation tag is not followed: masks lie on the pixels as they are stored
        image = read_image(self.samples[number].image, upright=False)
        return image if self.change is None else self.change(image, number)

    def read_mask(self, number: int, size: tuple[int, int]) -> Ids:
        """Mask of a sample whose image has `size` (H, W); errors as `read`."""
        return read_sample_mask(self.samples[number], self.protocol, size)


def resolve_dataset(params: DatasetParams, root: Path, name: str | None = None) -> ResolvedDataset:
    """Resolve one dataset; nothing but its protocol is read.

    Args:
        params: as the profile has it.
        root: the root of its source's raw data.
        name: as the profile calls it; None: the protocol's.

    Raises:
        RegroupError: the protocol is missing or bad, or has no class for a name of the drawn world.
    """
    protocol = load_protocol(params.protocol)
    names = None
    if params.names == "drawn":
        stuff = [name for name in drawn_stuff(params.source) if name in protocol.classes]
        names = [*drawn_names(params.source), *stuff]
    threshold = protocol.threshold if params.threshold is None else params.threshold
    return ResolvedDataset(
        name=name or protocol.name,
        protocol=protocol,
        prompts=protocol.class_prompts(names),
        threshold=threshold or 0.0,
        root=root,
        split=params.split,
        limit=params.limit,
        names=params.names,
    )


def resolve_datasets(
    params: Mapping[str, DatasetParams], roots: Mapping[str, Path]
) -> dict[str, ResolvedDataset]:
    """Resolve datasets by name; `roots` are those of the sources. Errors as `resolve_dataset`."""
    return {name: resolve_dataset(one, roots[one.source], name) for name, one in params.items()}


def find_samples(protocol: Protocol, root: Path, split: str, limit: int | None = None) -> list[Sample]:
    """The images of a split, or the first `limit` of them, in the order of the list file or of file names.

    Raises:
        RegroupError: a folder, list, image or mask is missing, there is no image, or masks are not what the
            layout expects.
    """
    layout = LAYOUTS.load(protocol.masks.layout)
    found: list[Sample] = layout.find(protocol, root, split)
    if look := getattr(layout, "look", None):
        look(found, protocol)
    samples = found[:limit]
    if not samples:
        raise RegroupError(f"{protocol.path(root, protocol.images, split)}: no image of split {split}")
    for what in ("image", "mask"):
        lacking = [path for sample in samples if not (path := getattr(sample, what)).is_file()]
        if lacking:
            more = f" (nor {len(lacking) - 1} others of {len(samples)})" if len(lacking) > 1 else ""
            raise RegroupError(f"{lacking[0]}: no such {what}{more} (protocol {protocol.name})")
    return samples


def read_sample_mask(sample: Sample, protocol: Protocol, size: tuple[int, int]) -> Ids:
    """The mask of an image of `size` (H, W): class ids, and `protocol.ignored` where nothing is scored.

    Raises:
        RegroupError: the mask is unreadable, has ids outside the class list, or not the image's size.
    """
    height, width = size
    mask: Ids = LAYOUTS.load(protocol.masks.layout).read(sample, protocol, height, width)
    if mask.shape != size:
        turned = mask.shape == (width, height)
        hint = "; masks lie on the pixels as stored, without the orientation tag" if turned else ""
        raise RegroupError(
            f"{sample.mask}: the mask is {mask.shape[1]} x {mask.shape[0]}, but {sample.image} is "
            f"{width} x {height}{hint}"
        )
    return mask


def read_samples(
    dataset: ResolvedDataset, params: InferenceParams | None = None, ahead: int = 16
) -> Iterator[tuple[Tensor, Tensor]]:
    """Masks, int32 [H, W], and RGB images, uint8 [3, h, w], in the dataset's order, read ahead by threads.

    Args:
        dataset: what to read.
        params: the size that images are scaled to; None: they stay as they are.
        ahead: samples that wait at most.
    """
    for [mask], pixels in read_together([dataset], params, ahead):
        yield mask, pixels


def read_together(
    datasets: Sequence[ResolvedDataset], params: InferenceParams | None = None, ahead: int = 16
) -> Iterator[tuple[tuple[Tensor, ...], Tensor]]:
    """As `read_samples`, for datasets of the same images: each image once, with its mask in every dataset."""

    def read(number: int) -> tuple[tuple[Tensor, ...], Tensor]:
        image = datasets[0].read_image(number)
        size = image.shape[0], image.shape[1]
        masks = tuple(torch.from_numpy(one.read_mask(number, size).astype(np.int32)) for one in datasets)
        scaled = image if params is None else scale_image(image, params)
        return masks, torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))

    return read_ahead(read, len(datasets[0].samples), ahead)


def read_ahead(read: Callable[[int], Read], count: int, ahead: int = 16) -> Iterator[Read]:
    """What `read` gives for 0 to `count` - 1, in this order, read by threads while the caller works.

    Args:
        read: safe to call from several threads.
        count: how many there are.
        ahead: results that wait at most.
    """
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[Future[Read]] = deque()
        try:
            for number in range(count):
                waiting.append(pool.submit(read, number))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def of_the_same_images(datasets: Iterable[ResolvedDataset]) -> list[list[ResolvedDataset]]:
    """Datasets in groups that show the same images in the same order; the groups in the order of their first.

    Raises:
        RegroupError: as `find_samples`, of any of them.
    """
    groups: dict[tuple[Change | None, tuple[Path, ...]], list[ResolvedDataset]] = {}
    for dataset in datasets:
        images = tuple(sample.image for sample in dataset.samples)
        groups.setdefault((dataset.change, images), []).append(dataset)
    return list(groups.values())
