"""The drawn `web` corpus in memory: noisy captions, and the masks that only pretraining may see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from regroup.captions.tagging import CaptionTagger
from regroup.captions.weights import load_weights
from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.pictures import read_mask, read_picture
from regroup.segmentation.images import normalise

UNLABELLED = 255


@dataclass(frozen=True)
class Concept:
    """A class of the drawn world: the names that belong to no other class, and whether it is stuff."""

    names: tuple[str, ...]
    stuff: bool

    def named_in(self, text: str) -> bool:
        """Whether the text has one of the names, in the singular or with an s."""
        words = f" {text.lower().rstrip('.')} "
        return any(f" {name} " in words or f" {name}s " in words for name in self.names)


@dataclass(frozen=True)
class WebBatch:
    """B images of one size with what is known of them.

    Attributes:
        pixels: [B, 3, S, S], normalised.
        coverage: [B, L, N] share of each concept among a patch's pixels; less than 1 in all where pixels have
            no concept.
        captions: B texts.
        nouns: B tuples of the captions' nouns.
    """

    pixels: Tensor
    coverage: Tensor
    captions: tuple[str, ...]
    nouns: tuple[tuple[str, ...], ...]


class WebCorpus:
    """Images, maps and captions of `web`, decoded once (about 50 kB an image)."""

    def __init__(self, root: Path) -> None:
        """Read a corpus in COCO's layout.

        Raises:
            RegroupError: a file is missing or no image is listed.
        """
        content: dict[str, Any] = read_json(root / "annotations/captions_train2017.json")
        names = {image["id"]: image["file_name"] for image in content["images"]}
        if not content["annotations"]:
            raise RegroupError(
                f"{root}/annotations/captions_train2017.json: annotations: no caption is listed"
            )
        self.concepts = read_concepts(root)
        self.captions = [annotation["caption"] for annotation in content["annotations"]]
        self.images, self.maps = [], []
        for annotation in content["annotations"]:
            name = Path(names[annotation["image_id"]])
            self.images.append(Image.fromarray(read_picture(root / "train2017" / name)))
            maps = root / "stuffthingmaps/train2017"
            self.maps.append(Image.fromarray(read_mask(maps / name.with_suffix(".png"))))
        self.nouns = [found.nouns for found in CaptionTagger(load_weights("textblob")).find(self.captions)]

    def __len__(self) -> int:
        """Captions, each with an image of its own."""
        return len(self.captions)

    def order(self, batch: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
        """Places of `batch` captions each, one shuffled pass after the other, without end."""
        while True:
            shuffled = rng.permutation(len(self))
            for start in range(0, len(self) - batch + 1, batch):
                yield shuffled[start : start + batch]

    def batch(
        self,
        places: Sequence[int],
        size: int,
        patch: int,
        area: tuple[float, float],
        rng: np.random.Generator,
    ) -> WebBatch:
        """Random crops (share `area` of the image), half of them mirrored, scaled to `size`."""
        pixels = np.empty((len(places), size, size, 3), dtype=np.uint8)
        maps = np.empty((len(places), size, size), dtype=np.int64)
        for row, place in enumerate(places):
            box = _crop(self.images[place].size, area, rng)
            image = self.images[place].resize((size, size), Image.Resampling.BILINEAR, box=box)
            labels = self.maps[place].resize((size, size), Image.Resampling.NEAREST, box=box)
            step = -1 if rng.integers(2) else 1
            pixels[row] = np.asarray(image)[:, ::step]
            maps[row] = np.asarray(labels)[:, ::step]
        return WebBatch(
            _jitter(normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2)), rng),
            torch.from_numpy(_coverage(maps, patch, len(self.concepts))),
            tuple(self.captions[place] for place in places),
            tuple(self.nouns[place] for place in places),
        )


def read_concepts(root: Path) -> tuple[Concept, ...]:
    """The classes of the maps of `root`, in the order of their ids."""
    records: list[dict[str, Any]] = read_json(root / "annotations/classes.json")
    owners = Counter(word for record in records for word in {*record["names"], *record["nouns"]})
    return tuple(
        Concept(
            tuple(
                dict.fromkeys(
                    word for word in [record["name"], *record["names"], *record["nouns"]] if owners[word] <= 1
                )
            )
            or (record["name"],),
            record["stuff"],
        )
        for record in records
    )


def _crop(
    size: tuple[int, int], area: tuple[float, float], rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """A box of a random share of the image and an aspect between 3:4 and 4:3, inside the image."""
    share = area[0] + (area[1] - area[0]) * rng.random()
    aspect = (3 / 4) ** (2 * rng.random() - 1)
    width = min(size[0], (share * size[0] * size[1] * aspect) ** 0.5)
    height = min(size[1], (share * size[0] * size[1] / aspect) ** 0.5)
    left, top = (size[0] - width) * rng.random(), (size[1] - height) * rng.random()
    return left, top, left + width, top + height


def _jitter(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Contrast and brightness of each image changed by up to a fifth."""
    gain, bias = (torch.from_numpy(rng.random((len(pixels), 1, 1, 1), dtype=np.float32)) for _ in range(2))
    return pixels * (0.8 + 0.4 * gain) + 0.4 * bias - 0.2


def _coverage(maps: NDArray[np.int64], patch: int, concepts: int) -> NDArray[np.float32]:
    count, side, _ = maps.shape
    grid = side // patch
    cell = np.arange(side) // patch
    patches = (np.arange(count)[:, None, None] * grid + cell[:, None]) * grid + cell
    labels = np.minimum(maps, concepts)
    counted = np.bincount(
        (patches * (concepts + 1) + labels).ravel(), minlength=count * grid**2 * (concepts + 1)
    )
    shares = counted.reshape(count, grid**2, concepts + 1)[..., :-1] / patch**2
    return shares.astype(np.float32)
