"""Features of pictures and texts, kept on disk: what every task of an image set has in common.

Encoding is most of the work of classification, retrieval and their like, and all of them ask for features of
the same pictures. A block of features is found by the digest of what it depends on (the weights of its tower,
the bytes of the pictures or the tokens, size and batch, the code, the kind of machine) and checked when it is
read: it can never be wrong, only missing. A job that was killed goes on after its last block.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from regroup.captions.tokens import tokenize
from regroup.errors import RegroupError
from regroup.io import source_digest
from regroup.model import Backbone
from regroup.model.machine import machine
from regroup.pictures import MAX_PIXELS, read_picture
from regroup.segmentation.evaluation import inference_mode
from regroup.segmentation.images import normalise
from regroup.segmentation.reuse import digest_of, read_tensors, write_tensors

BLOCK = 2048
"""Pictures or texts, at least, whose features are one file."""

TEXTS = 4096
"""Texts in a pass of the model."""

READERS = 4
"""Threads that read pictures while the model works."""

_CODE = ("backbones", "model", "features.py", "pictures.py", "captions/tokens.py", "segmentation/images.py")

Box = tuple[int, int, int, int]
"""Left, top, width and height, in pixels of the picture."""

Encode = Callable[[int, int], Iterator[Tensor]]
"""Features of the items from a first to behind a last one, a batch at a time."""


@dataclass
class Usage:
    """How many features this process has computed, and how many it has read from a store instead."""

    encoded: int = 0
    read: int = 0


USAGE = {"images": Usage(), "texts": Usage()}
"""For who wants to tell what keeping them saves; no result depends on it."""


def image_features(
    model: Backbone,
    paths: Sequence[Path],
    *,
    size: int,
    batch: int,
    store: Path | None = None,
    boxes: Sequence[Box | None] | None = None,
    progress: bool = False,
) -> Float[Tensor, "n c"]:
    """The model's feature of each picture as a whole: float32, on the CPU, not normalised.

    Args:
        model: on any device; in training mode nothing is kept.
        paths: the pictures.
        size: side in pixels of the square that the model sees, see `square`.
        batch: pictures in a pass of the model; another one may change last digits.
        store: folder of features that are kept; any number of processes may share it, and it may be removed
            at any time. None keeps none.
        boxes: the part of each picture that is meant, a picture by itself; None: the whole.
        progress: whether to show a progress bar.

    Raises:
        RegroupError: the size is no multiple of the model's patches, a picture is missing or broken, a box
            misses it, or a feature is not finite.
    """
    if size % model.patch_size:
        raise RegroupError(
            f"size: {size} pixels are not whole patches of {model.patch_size}; name a multiple"
        )
    step = batch * -(-BLOCK // batch)  # whole batches: a block has the digits that the whole set gives

    parts = [None] * len(paths) if boxes is None else boxes
    places = list(zip(paths, parts, strict=True))

    def encode(first: int, last: int) -> Iterator[Tensor]:
        for pixels in _batches(places[first:last], size, batch):
            shown = normalise(pixels.to(model.device))
            yield model.encode_image(shown, return_segments=False).feature.float().cpu()

    def key(first: int, last: int) -> tuple[object, ...]:
        cut = () if boxes is None else (tuple(boxes[first:last]),)
        return size, batch, tuple(_contents(paths[first:last])), *cut

    shelf = None if store is None or model.training else _shelf(store, model, _image_side(model))
    with tqdm(total=len(paths), desc="images", unit="image", disable=not progress) as bar:
        return _blocks(model, len(paths), step, encode, key, shelf, "images", bar.update)


def text_features(
    model: Backbone, texts: Sequence[str], *, store: Path | None = None
) -> Float[Tensor, "n c"]:
    """The model's feature of each text: float32, on the CPU, not normalised.

    Args:
        model: on any device; in training mode nothing is kept.
        texts: what is longer than the model's context loses its end.
        store: as for `image_features`.

    Raises:
        RegroupError: a feature is not finite.
    """
    tokens = torch.from_numpy(tokenize(texts, context=model.context)) if texts else torch.empty(0, 0)

    def encode(first: int, last: int) -> Iterator[Tensor]:
        yield model.encode_text(tokens[first:last].to(model.device)).float().cpu()

    def key(first: int, last: int) -> tuple[object, ...]:
        return (digest_of({"tokens": tokens[first:last]}),)

    shelf = None if store is None or model.training else _shelf(store, model, _text_side(model))
    return _blocks(model, len(texts), TEXTS, encode, key, shelf, "texts")


def square(path: Path, size: int, box: Box | None = None) -> NDArray[np.uint8]:
    """A picture as the model sees it, RGB [size, size, 3]: scaled to a short side of `size`, its middle.

    Args:
        path: the file.
        size: in pixels.
        box: the part that is meant; what of it lies outside the picture is black.

    Raises:
        RegroupError: the file is missing, is not a whole picture, or has nothing inside the box.
    """
    image = Image.fromarray(read_picture(path))
    if box is not None:
        x, y, wide, high = box
        if max(x, 0) >= min(x + wide, image.width) or max(y, 0) >= min(y + high, image.height):
            raise RegroupError(
                f"{path}: box {list(box)} has nothing of its {image.width} x {image.height} pixels"
            )
        if wide * high > MAX_PIXELS:
            raise RegroupError(f"{path}: box {list(box)} has more than {MAX_PIXELS:,} pixels")
        image = image.crop((x, y, x + wide, y + high))
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _blocks(
    model: Backbone,
    count: int,
    step: int,
    encode: Encode,
    key: Callable[[int, int], tuple[object, ...]],
    shelf: Path | None,
    what: str,
    done: Callable[[int], object] = lambda _: None,
) -> Tensor:
    """All features, block by block: what the shelf has is read, the rest is encoded and put there."""
    found = [torch.empty(0, model.config.joint_width)]
    for first in range(0, count, step):
        last = min(first + step, count)
        file = None if shelf is None else shelf / digest_of({}, *key(first, last))
        kept = None if file is None else _read(file)
        if kept is None:
            parts = []
            with inference_mode(model):
                for part in encode(first, last):
                    parts.append(part)
                    done(len(part))
            block = torch.cat(parts)
            if not bool(block.isfinite().all()):
                raise RegroupError(f"features of {what} are not finite: these weights cannot be scored")
            if file is not None:
                write_tensors(file, features=block, of=_of(file))
            USAGE[what].encoded += last - first
        else:
            block = kept["features"]
            done(len(block))
            USAGE[what].read += last - first
        found.append(block)
    return torch.cat(found)


def _read(file: Path) -> Mapping[str, Tensor] | None:
    """A block; None if there is none, or it is another one's that came to this name."""
    kept = read_tensors(file)
    return kept if kept is not None and torch.equal(kept.get("of", torch.empty(0)), _of(file)) else None


def _of(file: Path) -> UInt8[Tensor, " 64"]:
    """What a block depends on, to be written into it: the digests that its folder and it are called by."""
    return torch.tensor(list(bytes.fromhex(file.parent.name + file.name)), dtype=torch.uint8)


def _batches(
    places: Sequence[tuple[Path, Box | None]], size: int, batch: int
) -> Iterator[UInt8[Tensor, "b 3 size size"]]:
    """Pictures or parts of them in their order, a batch read while the model works at another."""
    groups = [places[start : start + batch] for start in range(0, len(places), batch)]
    with ThreadPoolExecutor(READERS) as pool:

        def begin(some: Sequence[tuple[Path, Box | None]]) -> Iterator[NDArray[np.uint8]]:
            return pool.map(lambda place: square(place[0], size, place[1]), some)

        waiting = begin(groups[0])
        for following in [*groups[1:], None]:
            ready = np.stack(list(waiting))
            if following is not None:
                waiting = begin(following)
            yield torch.from_numpy(ready).permute(0, 3, 1, 2)


def _contents(paths: Sequence[Path]) -> Iterator[str]:
    """Digests of the bytes of files.

    Raises:
        RegroupError: a file is missing or cannot be read.
    """

    def digest(path: Path) -> str:
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise RegroupError(f"{path}: not a file")
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise RegroupError(f"{path}: {error.strerror}") from None

    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(digest, paths)


def _shelf(store: Path, model: Backbone, weights: Mapping[str, Tensor]) -> Path:
    """The folder of one tower's features; what other code has made goes."""
    same_code = store / source_digest(*_CODE)
    for other in set(store.glob("*")) - {same_code}:
        shutil.rmtree(other, ignore_errors=True)  # nobody will ask for it
    return same_code / digest_of(weights, model.config, machine(model.device))


def _image_side(model: Backbone) -> Mapping[str, Tensor]:
    return _weights({"image": model.image, "projector": model.image_projector})


def _text_side(model: Backbone) -> Mapping[str, Tensor]:
    return _weights({"text": model.text, "projector": model.text_projector})


def _weights(parts: Mapping[str, torch.nn.Module]) -> Mapping[str, Tensor]:
    return {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
