"""Karpathy's splits of Flickr30k: `dataset_flickr30k.json`, images in `flickr30k-images`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regroup.records import Faults
from regroup.tasks._captions import Captioned, Corpus, no_file
from regroup.tasks._captions._karpathy import entries

SOURCE = "flickr30k"
IMAGES = "flickr30k-images"
SPLITS: Mapping[str, int | None] = {"train": None, "val": None, "test": 1_000}


def read(root: Path, split: str) -> Corpus:
    """The images of a split by file name, those without captions too.

    Raises:
        RegroupError: the file is missing or broken.
    """
    file = root / "dataset_flickr30k.json"
    if not file.is_file():
        raise no_file(file, "Karpathy's splits are the file `dataset_flickr30k.json` of caption_datasets.zip")
    faults = Faults(file)
    found = [
        Captioned(Path(entry.file_name).stem, root / IMAGES / entry.file_name, entry.captions)
        for entry in entries(file, (split,), faults)
    ]
    faults.check()
    images = tuple(sorted(found, key=lambda image: str(image.id)))
    return Corpus(file, f"flickr30k_{split}", images)
