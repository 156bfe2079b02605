"""COCO 2017: `annotations/captions_<split>2017.json`, images in `<split>2017`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regroup.tasks._captions import Captioned, Corpus, no_file

SOURCE = "coco"
SPLITS: Mapping[str, int | None] = {"train": 118_287, "val": 5_000}


def read(root: Path, split: str) -> Corpus:
    """The images of a split by id, those without captions too.

    Raises:
        RegroupError: the file is missing or broken.
    """
    from regroup.captions.coco import read_coco_captions

    file, folder = root / "annotations" / f"captions_{split}2017.json", root / f"{split}2017"
    if not file.is_file():
        raise no_file(file, "retrieval reads COCO's captions of its split")
    images = (
        Captioned(
            image.id,
            folder / image.file_name,
            tuple((caption.id, caption.text) for caption in image.captions),
            image.id,
        )
        for image in read_coco_captions(file).images
    )
    return Corpus(file, f"coco_captions_{split}", tuple(images))
