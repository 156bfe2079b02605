"""Flickr30k as its authors publish it: `results_20130124.token`, images in `flickr30k-images`; no splits.

A line is `1000092795.jpg#0`, a tab, and the caption.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regroup.errors import RegroupError
from regroup.records import Faults, file_name_problem
from regroup.tasks._captions import Captioned, Corpus, no_file
from regroup.tasks._captions.flickr30k import IMAGES

SOURCE = "flickr30k"
SPLITS: Mapping[str, int | None] = {"all": None}


def read(root: Path, split: str) -> Corpus:
    """All images by file name.

    Raises:
        RegroupError: the file is missing or broken.
    """
    file = root / "results_20130124.token"
    if not file.is_file():
        raise no_file(file, "Flickr30k's captions are this file of flickr30k.tar.gz")
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise RegroupError(f"{file}: not UTF-8 (byte {error.start}); get the file again") from None
    faults = Faults(file)
    captions: dict[str, dict[int, str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        key, tab, text = line.rstrip("\r").partition("\t")
        name, _, turn = key.rpartition("#")
        if not (tab and name and turn.isdecimal() and len(turn) < 10):
            faults.add(f"line {number}", "is not `NAME.jpg#NUMBER`, a tab and a caption")
        elif problem := file_name_problem(name):
            faults.add(f"line {number}", problem)
        elif int(turn) in captions.setdefault(name, {}):
            faults.add(f"line {number}", f"caption {key} comes twice")
        else:
            captions[name][int(turn)] = text
    faults.check()
    images = tuple(
        Captioned(Path(name).stem, root / IMAGES / name, tuple(sorted(captions[name].items())))
        for name in sorted(captions)
    )
    return Corpus(file, f"flickr30k_token_{split}", images)
