"""Karpathy's splits of COCO 2014: `annotations/dataset_coco.json`, beside COCO 2017's images or 2014's.

2017 has the images of 2014 under other names: most of this `test` and `val` lies in train2017.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regroup.records import Faults, file_name_problem, wrong
from regroup.tasks._captions import Captioned, Corpus, no_file
from regroup.tasks._captions._karpathy import entries

SOURCE = "coco"
SPLITS: Mapping[str, int | None] = {"train": 113_287, "val": 5_000, "test": 5_000}
"""`train` with what the file calls `restval`, as all use it."""


def read(root: Path, split: str) -> Corpus:
    """The images of a split by COCO's id, those without captions too.

    Raises:
        RegroupError: the file is missing or broken.
    """
    file = root / "annotations/dataset_coco.json"
    if not file.is_file():
        raise no_file(file, "Karpathy's splits are the file `dataset_coco.json` of caption_datasets.zip")
    faults, found = Faults(file), {}
    for entry in entries(file, ("train", "restval") if split == "train" else (split,), faults):
        if problem := wrong(entry.record, "cocoid", int):
            faults.add(f"{entry.where}.cocoid", problem)
        elif problem := _folder_problem(entry.record):
            faults.add(f"{entry.where}.filepath", problem)
        elif entry.record["cocoid"] in found:
            faults.add(f"{entry.where}.cocoid", f"image {entry.record['cocoid']} comes twice")
        else:
            id_ = entry.record["cocoid"]
            path = _path(root, id_, entry.record.get("filepath", ""), entry.file_name)
            found[id_] = Captioned(id_, path, entry.captions, id_)
    faults.check()
    images = tuple(found[id_] for id_ in sorted(found))
    return Corpus(file, f"karpathy_{split}", images)


def _folder_problem(record: Any) -> str | None:
    """Why the folder of an image, which need not be named, is none."""
    if record.get("filepath", "") == "":
        return None
    return wrong(record, "filepath", str) or file_name_problem(record["filepath"])


def _path(root: Path, id_: int, folder: str, name: str) -> Path:
    """Where an image is: as 2017 calls it, or 2014."""
    newer = [root / year / f"{id_:012d}.jpg" for year in ("train2017", "val2017")]
    return next((path for path in (*newer, root / folder / name) if path.is_file()), newer[0])
