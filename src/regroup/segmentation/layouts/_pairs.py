"""Images in one folder and a mask for each in another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from regroup.errors import RegroupError
from regroup.pictures import PICTURE_SUFFIXES
from regroup.records import file_name_problem
from regroup.segmentation.layouts import Sample
from regroup.settings import EachOnce, Settings

if TYPE_CHECKING:
    from regroup.segmentation.protocols import Protocol

SAMPLE = 8
"""Masks that are looked into before any work."""

Suffix = Annotated[str, StringConstraints(pattern=r"^[^/\\\x00]+$", max_length=100)]


def _one_or_more(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _apart(suffixes: tuple[str, ...]) -> tuple[str, ...]:
    for one in suffixes:
        if longer := [other for other in suffixes if other != one and other.endswith(one)]:
            raise ValueError(f"a file that ends in {longer[0]!r} ends in {one!r} too; keep one of them")
    return suffixes


class PairOptions(Settings):
    """How the mask of an image is found: its path with another ending, below another folder.

    Attributes:
        image_suffix: what images end in, one or several: `.jpg`, `_leftImg8bit.png`.
        mask_suffix: what stands in its place in a mask's name: `.png`, `_gtFine_labelIds.png`.
        subfolders: look for images below the folder's folders too.
    """

    image_suffix: Annotated[
        tuple[Suffix, ...], BeforeValidator(_one_or_more), EachOnce, AfterValidator(_apart)
    ] = Field(default=(".jpg",), min_length=1)
    mask_suffix: Suffix = ".png"
    subfolders: bool = False


def pairs(protocol: Protocol, options: PairOptions, root: Path, split: str) -> list[Sample]:
    """Images of the list file, or else of the folder, by name; each with its mask.

    Raises:
        RegroupError: a folder or the list is missing, the list is bad, or the folder has images that would be
            left out.
    """
    images, labels = (protocol.path(root, pattern, split) for pattern in (protocol.images, protocol.labels))
    for folder in dict.fromkeys((images, labels)):
        if not folder.is_dir():
            raise RegroupError(f"{folder}: no such folder (dataset {protocol.name}, split {split})")
    if protocol.list is None:
        found = _files_by_stem(images, options, masks_too=images == labels)
    else:
        listing = protocol.path(root, protocol.list, split)
        if not listing.is_file():
            raise RegroupError(f"{listing}: no such list of images")
        found = {stem: _existing(images, stem, options.image_suffix) for stem in read_list(listing)}
    return [Sample(image, labels / f"{stem}{options.mask_suffix}") for stem, image in found.items()]


def _files_by_stem(folder: Path, options: PairOptions, *, masks_too: bool) -> dict[str, Path]:
    """The folder's images by what their paths are without the suffix, sorted.

    Raises:
        RegroupError: images that end otherwise and would be left out, or two whose mask would be one.
    """
    suffixes = options.image_suffix
    files = list_files(folder, subfolders=options.subfolders)
    if masks_too:
        files = [path for path in files if not path.name.endswith(options.mask_suffix)]
    others = [
        path.name
        for path in files
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.endswith(suffixes)
    ]
    if others:
        raise RegroupError(
            f"{folder}: {len(others)} images do not end in {' or '.join(suffixes)} and would not be scored "
            f"({others[0]}); rename or remove them, or name their ending under `masks.image_suffix`"
        )
    named = [(stem_of(path, folder, suffixes), path) for path in files if path.name.endswith(suffixes)]
    twice = [stem for stem, count in Counter(stem for stem, _ in named).items() if count > 1]
    if twice:
        raise RegroupError(f"{folder}: {twice[0]} is there with several endings; their mask would be one")
    return dict(sorted(named))


def list_files(folder: Path, *, subfolders: bool) -> list[Path]:
    """Files of a folder, sorted; hidden ones do not count."""
    found = folder.rglob("*") if subfolders else folder.iterdir()
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


def stem_of(path: Path, folder: Path, suffixes: Sequence[str]) -> str:
    """A file's path below the folder without its suffix, with slashes."""
    name = path.relative_to(folder).as_posix()
    return next(name.removesuffix(suffix) for suffix in suffixes if name.endswith(suffix))


def _existing(folder: Path, stem: str, suffixes: Sequence[str]) -> Path:
    paths = [folder / f"{stem}{suffix}" for suffix in suffixes]
    return next((path for path in paths if path.is_file()), paths[0])


def read_list(path: Path) -> list[str]:
    """The image stems of a list file, one a line.

    Raises:
        RegroupError: not a file of UTF-8 text, or a line that is no stem, or there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RegroupError(f"{path}: not a list of images ({error})") from None
    stems: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        stem = line.strip()
        if not stem:
            continue
        if (problem := file_name_problem(stem)) is not None:
            raise RegroupError(f"{path}: line {number}: {problem}")
        if stem in stems:
            raise RegroupError(f"{path}: line {number}: {stem} is listed twice, first in line {stems[stem]}")
        stems[stem] = number
    return list(stems)


def some_of(samples: Sequence[Sample]) -> Iterable[Path]:
    """Masks of a few samples, spread over all of them, that are there."""
    for sample in samples[:: max(1, len(samples) // SAMPLE)][:SAMPLE]:
        with suppress(OSError):
            if sample.mask.is_file():
                yield sample.mask


def spare_masks(
    protocol: Protocol, options: PairOptions, root: Path, split: str, samples: Sequence[Sample]
) -> list[Path]:
    """Masks that no image has; with a list of images they are nobody's business, and there are none."""
    if protocol.list is not None:
        return []
    folder, wanted = protocol.path(root, protocol.labels, split), {sample.mask for sample in samples}
    files = list_files(folder, subfolders=options.subfolders)
    images = {sample.image for sample in samples}
    return [path for path in files if path.name.endswith(options.mask_suffix) and path not in wanted | images]
