"""PASCAL Context's masks of 459 classes, from the label maps in MATLAB's format that the dataset comes as."""

from __future__ import annotations

import io
import lzma
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from regroup.errors import RegroupError
from regroup.pictures import MAX_PIXELS

MASKS = "SegmentationClassContext459"
CLASSES = 459
VARIABLE = "LabelMap"

_MEMBER = re.compile(r"(?:\./)?(?:[\w-][\w.-]*/)*(\d{4}_\d{6})\.mat")
"""What label maps are called in the archive; the stem is that of the image, and no path."""

_MOST_BYTES = 20_000_000  # of a label map; 500 x 375 values of 16 bits are 375 kB before they are packed
_MOST_FILES = 100_000  # the dataset has 10,103
_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError)

Mask = npt.NDArray[np.uint16]


def make(file: Path, folder: Path, *, progress: bool = False) -> str:
    """Make the masks of the source `context459`, see `make_masks`."""
    count = make_masks(file, folder / "VOCdevkit/VOC2010", progress=progress)
    return f"PASCAL Context masks of {CLASSES} classes: {count:,}"


def make_masks(archive: Path, voc2010: Path, *, progress: bool = False) -> int:
    """Write `SegmentationClassContext459/*.png`: 16 bits, 0 where nothing is labelled, k for the k-th class.

    Args:
        archive: `trainval.tar.gz`, a label map for each image.
        voc2010: the folder VOCdevkit/VOC2010.
        progress: show a progress bar.

    Returns:
        How many masks there are.

    Raises:
        RegroupError: no archive of label maps, a map twice, or one that is damaged, far too large, or has ids
            above 459. Nothing is in place then.
    """
    temporary = voc2010 / f".{MASKS}.making"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    made: set[str] = set()
    try:
        maps = tqdm(_label_maps(archive), desc="Context masks", unit="image", disable=not progress)
        for stem, content in maps:
            if stem in made:
                raise RegroupError(f"{archive}: the label map of {stem} is there twice")
            if len(made) == _MOST_FILES:
                raise RegroupError(f"{archive}: more than {_MOST_FILES:,} label maps")
            Image.fromarray(label_map(content, f"{archive}: {stem}.mat")).save(temporary / f"{stem}.png")
            made.add(stem)
        if not made:
            raise RegroupError(f"{archive}: no label map (YEAR_NUMBER.mat) in it; is it trainval.tar.gz?")
        shutil.rmtree(voc2010 / MASKS, ignore_errors=True)
        temporary.replace(voc2010 / MASKS)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(made)


def _label_maps(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Stem and content of each label map; nothing of the archive is written under a name of its own."""
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                if (name := _MEMBER.fullmatch(member.name)) is None or not member.isfile():
                    continue
                if member.size > _MOST_BYTES:
                    raise RegroupError(f"{archive}: {member.name}: {member.size:,} bytes are no label map")
                opened = tar.extractfile(member)
                assert opened is not None  # it is a file
                yield name[1], opened.read()
    except _DAMAGE as error:
        raise RegroupError(f"{archive}: not a whole tar archive ({error})") from None


def label_map(content: bytes, where: str) -> Mask:
    """The ids [height, width] of a label map, 0 to 459.

    Raises:
        RegroupError: not a MATLAB file of this one matrix; `where` begins the message. Its size is known from
            its header, before it is unpacked.
    """
    from scipy.io import loadmat, whosmat

    try:
        shapes = {name: shape for name, shape, _ in whosmat(io.BytesIO(content))}
        shape = shapes.get(VARIABLE)
        if shape is None:
            raise RegroupError(f"{where}: has no variable {VARIABLE}")
        if len(shape) != 2 or not 0 < shape[0] * shape[1] <= MAX_PIXELS:
            raise RegroupError(f"{where}: {VARIABLE} has the shape {tuple(shape)}, which is no picture's")
        ids = loadmat(io.BytesIO(content), variable_names=[VARIABLE])[VARIABLE]
    except RegroupError:
        raise
    except Exception as error:  # the reader raises nearly anything over foreign bytes
        text = " ".join(str(error).split()) or type(error).__name__
        raise RegroupError(f"{where}: not a MATLAB file that can be read ({text})") from None
    if not isinstance(ids, np.ndarray) or ids.dtype.kind not in "ui" or ids.shape != tuple(shape):
        raise RegroupError(f"{where}: {VARIABLE} holds no whole numbers")
    if ids.min() < 0 or ids.max() > CLASSES:
        raise RegroupError(
            f"{where}: ids {ids.min()} to {ids.max()}; the label maps of PASCAL Context have 0 to {CLASSES}"
        )
    return np.ascontiguousarray(ids.astype(np.uint16))
