"""Segmenting any image into classes of one's own, and drawing the result."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from regroup.captions.tokens import tokenize
from regroup.drawing.style import PALETTE
from regroup.errors import RegroupError, check_regular, os_words
from regroup.io import json_bytes, write_bytes
from regroup.model.constants import END_OF_TEXT, START_OF_TEXT
from regroup.segmentation.images import read_image, scale_image
from regroup.segmentation.inference import Decision, EncodedImage, encode_images, label_maps
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import free_prompts
from regroup.segmentation.settings import InferenceParams

if TYPE_CHECKING:
    from regroup.model import Backbone

PARTS = ("overlay", "mask", "segments")
BACKGROUND = "background"
MOST_CLASSES = 254
_ROWS = 256
"""Of the overlay are painted at a time, in floating point: a large picture would take 70 bytes a pixel."""

Ids = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Segmented:
    """One segmented image.

    Attributes:
        image: RGB [H, W, 3].
        labels: [H, W], positions in `names`.
        segments: [H, W], the segment of each pixel, in the window whose centre is nearest; of a backbone
            without groups, the number of its patch, modulo 256.
        names: of the classes; `background` first if there is one.
    """

    image: NDArray[np.uint8]
    labels: Ids
    segments: Ids
    names: tuple[str, ...]

    def areas(self) -> dict[str, int]:
        """Pixels of each class, the largest first; classes without a pixel are left out."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        order = sorted(range(len(self.names)), key=lambda i: (-counts[i], i))
        return {self.names[i]: int(counts[i]) for i in order if counts[i]}


def segment_images(
    model: Backbone,
    paths: Iterable[Path],
    names: Sequence[str],
    params: InferenceParams,
    *,
    threshold: float | None,
    batch: int = 8,
    unreadable: Callable[[Path, RegroupError], None] | None = None,
) -> Iterator[tuple[Path, Segmented]]:
    """Segment images one after another.

    Args:
        model: on any device.
        paths: image files.
        names: up to 254 classes.
        params: inference settings.
        threshold: pixels whose best score is below are background; None: there is no background.
        batch: windows in a pass of the model.
        unreadable: is told of an image that cannot be read, and the others go on; None: that is an error.

    Raises:
        RegroupError: no name, a name twice, too many, or an image that cannot be read.
    """
    if len(names) > MOST_CLASSES:
        raise RegroupError(f"classes: {len(names)} names, but a mask holds no more than {MOST_CLASSES}")
    if threshold is not None and not 0 <= threshold <= 1:
        raise RegroupError(f"background: {threshold} is not possible: a number from 0 to 1")
    if threshold is not None and BACKGROUND in names:
        raise RegroupError(
            f"classes: `{BACKGROUND}` is what lies below the threshold; leave out one of the two"
        )
    prompts = free_prompts(names, background=threshold is not None)
    shown = ((BACKGROUND,) if prompts.background else ()) + tuple(name.strip() for name in names)
    decision = Decision(threshold or 0.0, params.top_k)

    def scaled() -> Iterator[tuple[tuple[Path, NDArray[np.uint8]], torch.Tensor]]:
        for path in paths:
            try:
                image = _read(path)
            except RegroupError as error:
                if unreadable is None:
                    raise
                unreadable(path, error)
                continue
            pixels = torch.from_numpy(np.ascontiguousarray(scale_image(image, params).transpose(2, 0, 1)))
            yield (path, image), pixels

    # not within `inference_mode`: whoever takes one image and stops would be left without gradients
    training = model.training
    model.eval()
    try:
        classes = embed_prompts(model, prompts.texts)
        for (path, image), encoded in encode_images(model, classes, scaled(), params, batch=batch):
            [found] = label_maps(encoded, prompts, [decision], (image.shape[0], image.shape[1]))
            segments = _segments(encoded, image.shape[0], image.shape[1])
            yield path, Segmented(image, found.cpu().numpy().astype(np.uint8), segments, shown)
    finally:
        model.train(training)


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        check_regular(path)
    except OSError as error:
        raise RegroupError(f"{path}: {os_words(error)}") from None
    return read_image(path)


def _segments(encoded: EncodedImage, height: int, width: int) -> Ids:
    """Segment of each pixel of the unscaled image, taken from the window whose centre is nearest."""
    rows, columns = np.arange(encoded.height)[:, None], np.arange(encoded.width)[None]
    nearest = np.full((encoded.height, encoded.width), np.inf)
    segments = np.zeros((encoded.height, encoded.width), dtype=np.uint8)
    maps = encoded.features.segment_map.cpu().numpy().astype(np.uint8)
    for box, inside in zip(encoded.boxes, maps, strict=True):
        distance = (rows - (box.top + box.bottom) / 2) ** 2 + (columns - (box.left + box.right) / 2) ** 2
        part = (slice(box.top, box.bottom), slice(box.left, box.right))
        closer = distance[part] < nearest[part]
        nearest[part] = np.where(closer, distance[part], nearest[part])
        segments[part] = np.where(closer, inside, segments[part])
    return np.asarray(Image.fromarray(segments).resize((width, height), Image.Resampling.NEAREST))


def unknown_names(model: Backbone, names: Sequence[str]) -> list[str]:
    """Names with a word that a checkpoint of compact vocabulary never saw: it cannot tell them apart."""
    if not model.text.config.compact:
        return []
    index = model.text.token_index.cpu().numpy()
    rows = tokenize(names)
    ends = {START_OF_TEXT, END_OF_TEXT, 0}
    return [n for n, row in zip(names, rows, strict=True) if any(index[i] == 0 for i in row if i not in ends)]


def colours(count: int, *, background: bool) -> NDArray[np.uint8]:
    """A colour for each id, RGB [count, 3]; the background is black."""
    palette = [tuple(bytes.fromhex(colour[1:])) for colour in PALETTE]
    first = [(0, 0, 0)] if background else []
    wanted = first + [palette[i % len(palette)] for i in range(count - len(first))]
    return np.array(wanted, dtype=np.uint8).reshape(count, 3)


def overlay(result: Segmented, *, opacity: float = 0.55) -> Image.Image:
    """The image under the colours of its classes, their outlines, and a legend with shares below."""
    background = result.names[0] == BACKGROUND
    table = colours(len(result.names), background=background)
    painted = np.empty_like(result.image)
    for top in range(0, len(painted), _ROWS):
        rows = slice(top, top + _ROWS)
        image, labels = result.image[rows], result.labels[rows]
        blended = image * (1 - opacity) + table[labels].astype(np.float32) * opacity
        if background:
            blended = np.where((labels == 0)[..., None], image * 0.6, blended)
        painted[rows] = blended.round().astype(np.uint8)
    painted[_outlines(result.labels)] = 255
    picture = Image.fromarray(painted)
    legend = _legend(result, table, width=max(picture.width, 160))
    page = Image.new("RGB", (max(picture.width, legend.width), picture.height + legend.height), "white")
    page.paste(picture, (0, 0))
    page.paste(legend, (0, picture.height))
    return page


def _outlines(labels: Ids) -> NDArray[np.bool_]:
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return edge


def _legend(result: Segmented, table: NDArray[np.uint8], width: int) -> Image.Image:
    """Swatch, name and share of each class that is there, in rows of at most `width` pixels."""
    font = ImageFont.load_default(size=13)
    total = result.labels.size
    entries = [(name, f"{name} {_share(pixels / total)}") for name, pixels in result.areas().items()]
    x, y, places = 6, 4, []
    for name, text in entries:
        length = 16 + int(font.getlength(text)) + 14
        if x + length > width and x > 6:
            x, y = 6, y + 20
        places.append((x, y, name, text))
        x += length
    widest = max([width, *(x + 30 + int(font.getlength(text)) for x, _, _, text in places)])
    legend = Image.new("RGB", (widest, y + 22), "white")
    draw = ImageDraw.Draw(legend)
    for x, y, name, text in places:
        draw.rectangle((x, y + 2, x + 11, y + 13), fill=tuple(table[result.names.index(name)].tolist()))
        draw.text((x + 16, y), text, fill="black", font=font)
    return legend


def _share(value: float) -> str:
    return f"{value:.0%}" if value >= 0.01 else "<1%"


def output_names(stem: str) -> tuple[str, ...]:
    """Names of the files that `segmented_files` makes."""
    return (*(f"{stem}-{part}.png" for part in PARTS), f"{stem}.json")


def segmented_files(
    result: Segmented, stem: str, *, source: str, settings: dict[str, Any]
) -> list[tuple[str, bytes]]:
    """`stem`-overlay.png, -mask.png, -segments.png and `stem`.json: name and content of each.

    The masks are palette PNGs: a pixel's value is a position in the JSON's `classes`, or a group's number.
    """
    parts = {
        "overlay": overlay(result),
        "mask": _palette_png(
            result.labels, colours(len(result.names), background=result.names[0] == BACKGROUND)
        ),
        "segments": _palette_png(result.segments, colours(256, background=False)),
    }
    contents = []
    for part in PARTS:
        buffer = io.BytesIO()
        parts[part].save(buffer, format="PNG")
        contents.append(buffer.getvalue())
    total = result.labels.size
    areas = [
        {"name": name, "pixels": pixels, "share": pixels / total} for name, pixels in result.areas().items()
    ]
    height, width = result.labels.shape
    head = {"image": source, "width": width, "height": height, "classes": list(result.names)}
    contents.append(json_bytes({**head, "areas": areas, "settings": settings}))
    return list(zip(output_names(stem), contents, strict=True))


def write_segmented(result: Segmented, stem: Path, *, source: str, settings: dict[str, Any]) -> list[Path]:
    """Write the files of `segmented_files` beside `stem`, over whatever is there; return their paths."""
    paths = []
    for name, content in segmented_files(result, stem.name, source=source, settings=settings):
        paths.append(stem.with_name(name))
        write_bytes(paths[-1], content)
    return paths


def _palette_png(ids: Ids, table: NDArray[np.uint8]) -> Image.Image:
    picture = Image.frombytes("P", ids.shape[::-1], np.ascontiguousarray(ids).tobytes())
    picture.putpalette(table.ravel().tolist())
    return picture
