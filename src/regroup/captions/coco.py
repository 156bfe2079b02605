"""COCO caption files: one json with images and captions, one folder with the images."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from regroup.errors import RegroupError
from regroup.io import read_json

CAPTIONS_JSON = Path("annotations", "captions_train2017.json")
IMAGES_FOLDER = Path("train2017")

_T = TypeVar("_T")
_NAMED = 5  # offenders named in a message; the rest are counted


class Caption(NamedTuple):
    """One caption: its annotation id and its text, as it stands in the file."""

    id: int
    text: str


class CaptionedImage(NamedTuple):
    """An image and its captions (by id); an image without captions has an empty tuple."""

    id: int
    file_name: str
    width: int
    height: int
    captions: tuple[Caption, ...]


@dataclass(frozen=True)
class CaptionCorpus:
    """All images of a caption file, by image id. The order defines the rows of `labels.parquet`."""

    path: Path
    images: tuple[CaptionedImage, ...]

    @property
    def captions(self) -> list[str]:
        """All captions in the order of the rows: by image id, then by caption id."""
        return [caption.text for image in self.images for caption in image.captions]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of every caption with its id and its image's: equal where the rows are the same."""
        total = hashlib.sha256()
        for image in self.images:
            for caption in image.captions:
                text = caption.text.encode()
                total.update(b"%d %d %d " % (image.id, caption.id, len(text)))
                total.update(text)
        return total.hexdigest()


def read_coco_captions(path: Path) -> CaptionCorpus:
    """Read a COCO caption file (`captions_train2017.json`).

    Raises:
        RegroupError: not JSON, a missing or ill-typed key, an id that comes twice, a caption of an unknown
            image, or a file name that leaves the image folder.
    """
    document = read_json(path)
    if not isinstance(document, dict):
        raise RegroupError(f"{path}: holds a {type(document).__name__}, not a COCO caption file")
    images = {}
    for number, entry in enumerate(_list(path, document, "images")):
        where = f"images[{number}]"
        image = CaptionedImage(
            id=_value(path, where, entry, "id", int),
            file_name=_file_name(path, where, _value(path, where, entry, "file_name", str)),
            width=_value(path, where, entry, "width", int),
            height=_value(path, where, entry, "height", int),
            captions=(),
        )
        if image.id in images:
            raise RegroupError(f"{path}: {where}.id: image id {image.id} comes twice")
        images[image.id] = image
    captions: dict[int, list[Caption]] = {image_id: [] for image_id in images}
    seen: set[int] = set()
    for number, entry in enumerate(_list(path, document, "annotations")):
        caption, image_id = _caption(path, number, entry)
        if caption.id in seen:
            raise RegroupError(f"{path}: annotations[{number}].id: caption id {caption.id} comes twice")
        if image_id not in captions:
            where = f"annotations[{number}].image_id"
            raise RegroupError(f"{path}: {where}: image {image_id} is not among the images")
        seen.add(caption.id)
        captions[image_id].append(caption)
    ordered = sorted(images.values(), key=lambda image: image.id)
    return CaptionCorpus(path, tuple(_with_captions(image, captions[image.id]) for image in ordered))


def check_images(corpus: CaptionCorpus, folder: Path) -> None:
    """Check that every image of the corpus lies in `folder`.

    Raises:
        RegroupError: says how many are missing and names the first.
    """
    if not folder.is_dir():
        raise RegroupError(f"{folder}: no such folder; it should hold the images of {corpus.path}")
    present = set(os.listdir(folder))  # noqa: PTH208 (names only); one listing instead of a look at every file
    missing = [
        image.file_name
        for image in corpus.images
        if image.file_name not in present and not (folder / image.file_name).is_file()
    ]
    if missing:
        named = ", ".join(missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
        raise RegroupError(
            f"{folder}: {len(missing)} of the {len(corpus.images)} images of {corpus.path} are missing"
            f" ({named}); fetch the images again or use the caption file that belongs to them"
        )


def _with_captions(image: CaptionedImage, captions: list[Caption]) -> CaptionedImage:
    by_id = tuple(sorted(captions, key=lambda caption: caption.id))
    return CaptionedImage(image.id, image.file_name, image.width, image.height, by_id)


def _list(path: Path, document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise RegroupError(f"{path}: {key}: a COCO caption file has a list here")
    return value


def _value(path: Path, where: str, entry: Any, key: str, kind: type[_T]) -> _T:
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        problem = "is missing" if value is None else f"is a {type(value).__name__}, not {kind.__name__}"
        raise RegroupError(f"{path}: {where}.{key}: {problem}")
    return value


def _caption(path: Path, number: int, entry: Any) -> tuple[Caption, int]:
    try:
        caption_id, image_id, text = entry["id"], entry["image_id"], entry["caption"]
    except (TypeError, KeyError):
        caption_id = image_id = text = None
    if type(caption_id) is int and type(image_id) is int and type(text) is str:
        return Caption(caption_id, text if text.isascii() else _printable(text)), image_id
    where = f"annotations[{number}]"
    for key, kind in (("image_id", int), ("caption", str), ("id", int)):
        _value(path, where, entry, key, kind)
    raise AssertionError


def _printable(text: str) -> str:
    """Half of a surrogate pair, which JSON can carry and UTF-8 cannot, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _file_name(path: Path, where: str, name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name or "\0" in name:
        raise RegroupError(f"{path}: {where}.file_name: {name!r} leaves the image folder")
    return name
