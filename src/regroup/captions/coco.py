"""COCO caption files: one json with images and captions, one folder with the images."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from regroup.errors import RegroupError
from regroup.records import Faults, ImageRecord, image_records, is_id, read_document, wrong

CAPTIONS_JSON = Path("annotations", "captions_train2017.json")
IMAGES_FOLDER = Path("train2017")

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
        RegroupError: not JSON, a missing or ill-typed key, an id or a size out of range, an id that comes
            twice, a caption of an unknown image, or a file name that leaves the image folder; names the file
            and the first of such records, and counts the others.
    """
    document = read_document(path, "COCO caption file", "images", "annotations")
    faults = Faults(path)
    images = image_records(document["images"], faults)
    captions: dict[int, list[Caption]] = {image_id: [] for image_id in images}
    seen: set[int] = set()
    for number, entry in enumerate(document["annotations"]):
        try:
            caption_id, image_id, text = entry["id"], entry["image_id"], entry["caption"]
        except (TypeError, KeyError):
            caption_id = image_id = text = None
        if not (is_id(caption_id) and is_id(image_id) and type(text) is str):
            _explain(number, entry, faults)
        elif caption_id in seen:
            faults.add(f"annotations[{number}].id", f"caption id {caption_id} comes twice")
        elif image_id not in captions:
            where = f"annotations[{number}].image_id"
            faults.add(where, f"image {image_id} is not among the images", entry)
        else:
            seen.add(caption_id)
            captions[image_id].append(Caption(caption_id, text if text.isascii() else _printable(text)))
    faults.check()
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


def _with_captions(image: ImageRecord, captions: list[Caption]) -> CaptionedImage:
    by_id = tuple(sorted(captions, key=lambda caption: caption.id))
    return CaptionedImage(image.id, image.file_name, image.width, image.height, by_id)


def _explain(number: int, entry: Any, faults: Faults) -> None:
    for key, kind in (("image_id", int), ("caption", str), ("id", int)):
        if (problem := wrong(entry, key, kind)) is not None:
            return faults.add(f"annotations[{number}].{key}", problem, entry)
    raise AssertionError


def _printable(text: str) -> str:
    """Half of a surrogate pair, which JSON can carry and UTF-8 cannot, becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
