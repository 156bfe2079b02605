"""Pictures by class in ImageNet's layout, `<split>/<class>/*.jpg`, and the words that a class stands for.

Which words a folder stands for is read from the first of these that there is:

1. a file that the caller names: YAML, `folder: word` or `folder: [word, ...]`, else text like `classes.txt`;
2. `classes.txt` beside the splits, lines of `folder<TAB>word, word`;
3. ImageNet's own words, where every folder is one of its 1,000 WordNet ids (class_folders.yaml);
4. `LOC_synset_mapping.txt` beside the splits, lines of `n01440764 tench, Tinca tinca`;
5. the folder's name, with `_` as a blank.

A list may have more folders than are there. Folders are sorted by name, which is a class's number.
"""

from __future__ import annotations

import os
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regroup.errors import RegroupError, os_words, shortlist, shown
from regroup.pictures import PICTURE_SUFFIXES
from regroup.settings import read_yaml
from regroup.texts import text_problem

CLASSES, SYNSETS = "classes.txt", "LOC_synset_mapping.txt"

Words = tuple[str, ...]

_WNID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class ClassFolders:
    """The pictures of one split.

    Attributes:
        names: the words of each class; the first is the one used where one is enough.
        folders: the folder of each class, sorted.
        paths: the pictures, by class, then by name.
        labels: the class of each picture, its place in `folders`.
        others: what lies in the folders and is no picture by its name; hidden files do not count.
    """

    names: tuple[Words, ...]
    folders: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: NDArray[np.int64]
    others: int = 0

    def of(self, label: int) -> tuple[Path, ...]:
        """The pictures of one class."""
        first, end = np.searchsorted(self.labels, (label, label + 1))
        return self.paths[first:end]


def read_class_folders(
    root: Path, split: str, *, names: Path | None = None, per_class: int | None = None
) -> ClassFolders:
    """List a split: every folder in it is a class; links are followed, hidden files do not count.

    Nothing is opened, so a picture may still be broken.

    Args:
        root: the folder that has `train` and `val`.
        split: one of them.
        names: a file with the words of the classes, before any other.
        per_class: only the first so many pictures of each class, by name.

    Raises:
        RegroupError: there is no such split or no class in it, a class has no picture or a picture is a link
            to nowhere, or a class has no word in the list that is used.
    """
    folder = root / split
    found = {item.name: Path(item.path) for item in _entries(folder, split) if item.is_dir()}
    if not found:
        raise RegroupError(f"{folder}: has no folder; a class is a folder of pictures, {split}/<class>/*.jpg")
    classes = sorted(found)
    paths: list[Path] = []
    counts, empty, others = [], [], 0
    for name in classes:
        pictures, rest = _pictures(found[name])
        others += rest
        paths += pictures[:per_class]
        counts.append(len(pictures[:per_class]))
        if not pictures:
            empty.append(name)
    if empty:
        raise RegroupError(
            f"{folder}: classes without a picture ({', '.join(PICTURE_SUFFIXES)}): {shortlist(empty, 5)}; "
            "add some, or remove these folders"
        )
    labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
    return ClassFolders(_words(root, classes, names), tuple(classes), tuple(paths), labels, others)


def check_same_classes(train: ClassFolders, val: ClassFolders, root: Path) -> None:
    """Refuse splits whose classes differ: what was never trained cannot be found.

    Raises:
        RegroupError: names the folders that one of them lacks.
    """
    for lacking, other, split in ((train, val, "train"), (val, train, "val")):
        if missing := sorted(set(other.folders) - set(lacking.folders)):
            raise RegroupError(
                f"{root / split}: lacks classes that the other split has: {shortlist(missing, 5)}; both need "
                "the same folders"
            )


def _entries(folder: Path, split: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as items:
            return [item for item in items if not item.name.startswith(".")]
    except FileNotFoundError:
        raise RegroupError(
            f"{folder}: no such folder; class-per-folder data has {split}/<class>/*.jpg"
        ) from None
    except OSError as error:
        raise RegroupError(f"{folder}: {os_words(error)}") from None


def _pictures(folder: Path) -> tuple[list[Path], int]:
    """Pictures of a class, sorted by name, and how many other entries there are."""
    items = _entries(folder, folder.parent.name)
    pictures = [item for item in items if item.name.lower().endswith(PICTURE_SUFFIXES)]
    for item in pictures:
        if item.is_symlink() and not item.is_file():
            raise RegroupError(f"{item.path}: a link to nowhere; restore the picture, or remove the link")
    return [folder / item.name for item in sorted(pictures, key=_name)], len(items) - len(pictures)


def _name(item: os.DirEntry[str]) -> str:
    return item.name


def _words(root: Path, folders: list[str], names: Path | None) -> tuple[Words, ...]:
    """The words of each folder, from the first list that there is."""
    if names is not None:
        yaml = names.suffix in (".yaml", ".yml")
        file, table = names, _from_yaml(names) if yaml else _from_lines(names, "\t")
    elif (root / CLASSES).is_file():
        file, table = root / CLASSES, _from_lines(root / CLASSES, "\t")
    elif _are_imagenets(folders):
        return tuple(_imagenet()[folder] for folder in folders)
    elif (root / SYNSETS).is_file():
        file, table = root / SYNSETS, _from_lines(root / SYNSETS, " ")
    else:
        return tuple((_from_folder(root, folder),) for folder in folders)
    if missing := [folder for folder in folders if _plain(folder) not in table]:
        raise RegroupError(
            f"{file}: has no words for the classes {shortlist(missing, 5)}; add a line for each"
        )
    return tuple(table[_plain(folder)] for folder in folders)


def _are_imagenets(folders: list[str]) -> bool:
    # the list is read only where it may be meant
    return all(map(_WNID.fullmatch, folders)) and all(folder in _imagenet() for folder in folders)


def _from_folder(root: Path, folder: str) -> str:
    try:
        folder.encode()
    except UnicodeEncodeError:
        raise RegroupError(f"{root}: the name of the folder {folder!r} is not UTF-8; rename it") from None
    if not (word := " ".join(folder.replace("_", " ").split())):
        raise RegroupError(f"{root}: the folder {folder!r} says no word; give its words in {CLASSES}")
    return word


def _from_lines(file: Path, between: str) -> dict[str, Words]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise RegroupError(f"{file}: no such file; it is to list the words of the classes") from None
    except UnicodeDecodeError:
        raise RegroupError(f"{file}: is not UTF-8; save it as that") from None
    found: dict[str, Words] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        folder, mark, rest = line.partition(between)
        words = tuple(" ".join(word.split()) for word in rest.split(","))
        if not mark or not folder.strip() or not all(words):
            form = "folder<TAB>word, word" if between == "\t" else "folder word, word"
            raise RegroupError(f"{file}: line {number}: {shown(line)!r} is not `{form}`")
        if _plain(folder.strip()) in found:
            raise RegroupError(f"{file}: line {number}: the class {shown(folder)} is there twice")
        found[_plain(folder.strip())] = words
    return found


def _from_yaml(file: Path) -> dict[str, Words]:
    value = read_yaml(file)
    if not isinstance(value, dict):
        raise RegroupError(f"{file}: a mapping is wanted, `folder: word` or `folder: [word, word]`")
    return {_key(file, key): _checked(file, key, words) for key, words in value.items()}


def _key(file: Path, key: Any) -> str:
    if not isinstance(key, str):
        raise RegroupError(f"{file}: {key!r} is read as no text; put the folder's name in quotes")
    return _plain(key)


def _checked(file: Path, key: str, value: Any) -> Words:
    words = value if isinstance(value, list) else [value]
    if not words or not all(isinstance(word, str) and word.strip() for word in words):
        raise RegroupError(f"{file}: {shown(key)}: a word or a list of words is wanted (got {shown(value)})")
    if problem := next(filter(None, map(text_problem, words)), None):
        raise RegroupError(f"{file}: {shown(key)}: {problem}")
    return tuple(" ".join(word.split()) for word in words)


def _plain(name: str) -> str:
    """One form of letters with marks: some file systems take them apart."""
    return unicodedata.normalize("NFC", name)


@cache
def _imagenet() -> dict[str, Words]:
    """ImageNet's words by WordNet id; the file names its source."""
    table: dict[str, str] = read_yaml(Path(__file__).with_suffix(".yaml"))["imagenet"]
    return {wnid: (word,) for wnid, word in table.items()}
