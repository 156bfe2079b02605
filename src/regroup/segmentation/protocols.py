"""Evaluation protocols: class names, prompts, background, and how images and masks lie in their folder.

A protocol is a YAML file: one of `protocols/`, found by listing and named like its file, or any other by its
path. Its class names are part of it, since other words for the same classes move scores by points. The keys
are those of `Protocol`; what `masks` may say is up to the layout that it names, a module of `layouts/`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import DTypeLike
from pydantic import AfterValidator, Field, SerializeAsAny, model_validator
from torch import Tensor

from regroup.captions.prompts import INFERENCE_TEMPLATE
from regroup.errors import RegroupError
from regroup.segmentation.layouts import LAYOUTS
from regroup.segmentation.settings import PROTOCOLS, is_file
from regroup.settings import Settings, Share, parse, read_yaml

IGNORED = 255
"""Mask value of pixels that are not scored, where the classes leave it free."""

IGNORED_16_BIT = 65_535
"""The same of protocols with more than 255 classes."""


MOST_CLASSES = 10_000
"""Of a protocol: a matrix of all pairs of classes is counted."""


def _below_the_root(path: str) -> str:
    if Path(path).is_absolute() or ".." in Path(path).parts or not path.isprintable():
        raise ValueError("give a path below the root of the raw data, without `..`")
    return path


Below = Annotated[str, AfterValidator(_below_the_root)]


class Masks(Settings):
    """How images and masks lie in their folder: the layout's name and what it is told."""

    layout: str = "ids"
    options: SerializeAsAny[Settings]


class Protocol(Settings):
    """What is scored on a dataset, and against which masks.

    Attributes:
        name: the file's.
        title: for tables; none: the name.
        source: where the class names come from, for people.
        classes: names in the order of their ids, 0 first.
        words: class -> other words to ask for in place of its name; the best word counts (`ClassPrompts`).
        background: whether class 0 is what no class is surer of than `threshold`. A background that is
            found by words of its own is a class with `words` like any other; without either, every pixel
            gets a class.
        threshold: 0..1.
        template: `{}` is where the word goes.
        masks: a layout's name, or a mapping of `layout` (`ids`) and its options.
        images, labels: paths below the raw data's root with `{split}` in them: folders, or for `instances`
            the annotation file.
        list: a text file of image stems; without it every image of the folder is scored.
        splits: what stands for `{split}`, where `train` and `val` are called otherwise.
    """

    name: str
    title: str
    source: str = ""
    classes: tuple[str, ...] = Field(max_length=MOST_CLASSES)
    words: dict[str, tuple[str, ...]] = Field(default={})
    background: bool
    threshold: Share | None = None
    template: str = Field(default=INFERENCE_TEMPLATE, pattern=r"\{\}")
    masks: Masks
    images: Below
    labels: Below
    list: Below | None = None
    splits: Mapping[str, Below] = Field(default={})

    @model_validator(mode="after")
    def _words_are_of_classes(self) -> Protocol:
        for name, words in self.words.items():
            if name not in self.classes:
                raise ValueError(f"words: {name!r} is none of `classes`")
            if not words or not all(word.strip() for word in words):
                raise ValueError(f"words.{name}: empty; leave it out, and the class is asked for by its name")
        if self.background and self.classes and self.classes[0] in self.words:
            raise ValueError(
                f"words: {self.classes[0]!r} is found by the threshold; for words of its own set "
                "`background: false`"
            )
        asked = Counter(
            word for i in range(int(self.background), len(self.classes)) for word in self.words_of(i)
        )
        if twice := [word for word, count in asked.items() if count > 1]:
            raise ValueError(f"words: {twice[0]!r} stands for two classes; a pixel could be either")
        if self.background and self.threshold is None:
            raise ValueError("threshold: missing, and `background: true` needs it")
        return self

    @model_validator(mode="after")
    def _the_layout_agrees(self) -> Protocol:
        check = getattr(LAYOUTS.load(self.masks.layout), "check", None)
        if check is not None:
            check(self)
        return self

    @property
    def ignored(self) -> int:
        """The id of pixels that are not scored."""
        return IGNORED if len(self.classes) <= IGNORED else IGNORED_16_BIT

    @property
    def mask_type(self) -> DTypeLike:
        """NumPy's type of masks of ids."""
        return np.uint8 if self.ignored == IGNORED else np.uint16

    def words_of(self, class_id: int) -> tuple[str, ...]:
        """What a class is asked for by."""
        name = self.classes[class_id]
        return self.words.get(name, (name,))

    def path(self, root: Path, pattern: str, split: str) -> Path:
        """A path of this protocol below `root`, for a split (`train` or `val`)."""
        return root / pattern.replace("{split}", self.splits.get(split, split))

    def class_prompts(self, names: Iterable[str] | None = None) -> ClassPrompts:
        """Prompts of the classes called `names` (None: all); the background, if there is one, always stays.

        Masks keep the protocol's ids: pixels of a class that is left out count as errors, and its IoU is 0,
        but it is never predicted.

        Raises:
            RegroupError: a name that the protocol does not have, none at all, or one twice.
        """
        names = check_names(self.classes if names is None else names, f"protocol {self.name}")
        unknown = sorted(set(names) - set(self.classes))
        if unknown:
            raise RegroupError(f"protocol {self.name}: no class is called {', '.join(map(repr, unknown))}")
        first = 1 if self.background else 0
        prompted = [i for i, name in enumerate(self.classes) if i >= first and name in set(names)]
        if not prompted:
            raise RegroupError(f"protocol {self.name}: no class is left but the background")
        words = [self.words_of(i) for i in prompted]
        return ClassPrompts(
            texts=tuple(self.template.replace("{}", word) for some in words for word in some),
            ids=((0, *prompted) if self.background else tuple(prompted)),
            background=self.background,
            words=tuple(map(len, words)),
        )


@dataclass(frozen=True)
class ClassPrompts:
    """What can be predicted, and the texts that it is asked for by.

    A class of several words has the logit of its best one, before any softmax: a further word counts where it
    fits better, and the class is not counted twice among the others. (As open-vocabulary evaluations with
    several names a class do as a rule; a mean would pull the embedding between meanings.)

    Attributes:
        texts: one a word, class after class, without the background.
        ids: the id that stands for each score channel in predictions, ascending; the background's is first.
        background: whether there is a background channel, which has no text.
        words: how many texts each class has; empty: one each.
    """

    texts: tuple[str, ...]
    ids: tuple[int, ...]
    background: bool
    words: tuple[int, ...] = ()

    @property
    def prompted(self) -> tuple[int, ...]:
        """Ids of the classes that have texts, in the order of the texts."""
        return self.ids[1:] if self.background else self.ids

    def best_word(self, logits: Tensor) -> Tensor:
        """The logit of each class, that of its best word: [..., texts] to [..., classes]."""
        if len(self.texts) == len(self.prompted):
            return logits
        return torch.stack(
            [some.amax(dim=-1) for some in torch.split(logits, list(self.words), dim=-1)], dim=-1
        )

    def without_background(self) -> ClassPrompts:
        """The same classes without a background channel."""
        return ClassPrompts(self.texts, self.prompted, background=False, words=self.words)


def free_prompts(
    names: Sequence[str], *, background: bool, template: str = INFERENCE_TEMPLATE
) -> ClassPrompts:
    """Prompts for class names of one's own: ids 1, 2, ... with a background at 0, else 0, 1, ...

    Raises:
        RegroupError: no name, an empty one, or one twice.
    """
    names = check_names(names, "classes")
    ids = tuple(range(len(names) + int(background)))
    return ClassPrompts(tuple(template.replace("{}", name) for name in names), ids, background)


def check_names(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Drop spaces around names; refuse a list that is empty, or a name that is empty, unseen or there twice.

    Raises:
        RegroupError: names the offender.
    """
    cleaned = tuple(name.strip() for name in names)
    if not cleaned:
        raise RegroupError(f"{where}: the list of class names is empty; name at least one")
    if "" in cleaned:
        raise RegroupError(f"{where}: a class name is empty")
    if hidden := [name for name in cleaned if not name.isprintable()]:
        raise RegroupError(f"{where}: {hidden[0]!r} has characters that cannot be seen; leave them out")
    twice = sorted(name for name, count in Counter(cleaned).items() if count > 1)
    if twice:
        raise RegroupError(f"{where}: class named twice: {', '.join(twice)}; keep one of each")
    return cleaned


@cache
def load_protocol(name: str) -> Protocol:
    """Read a protocol: one that comes with the package by its name, any other by the path of its file.

    Raises:
        RegroupError: no protocol has this name, or as `read_protocol`.
    """
    return read_protocol(protocol_file(name))


def protocol_file(name: str) -> Path:
    """Where a protocol is written down.

    Raises:
        RegroupError: no protocol has this name.
    """
    return Path(name) if is_file(name) else PROTOCOLS.path(name)


def files_behind(protocols: Iterable[str]) -> list[Path]:
    """The files of protocols, by name or path, and the readers of their masks, which are found by name."""
    names = sorted(set(protocols))
    readers = {file for name in names for file in LAYOUTS.files(load_protocol(name).masks.layout)}
    return [*map(protocol_file, names), *sorted(readers)]


def read_protocol(path: Path) -> Protocol:
    """Read a protocol file; its name is the file's.

    Raises:
        RegroupError: the file is missing, a key is wrong, or the class list is empty or names a class twice.
    """
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise RegroupError(f"{path}: a protocol is a mapping of keys to values")
    masks = _masks(value.get("masks", {}), path)
    given = {"name": path.stem, "title": path.stem, **value, "masks": masks}
    check_names(parse(_Classes, {"classes": given.get("classes", ())}, path).classes, f"{path}: classes")
    return parse(Protocol, given, path)


class _Classes(Settings):
    classes: tuple[str, ...]


def _masks(value: Any, path: Path) -> Masks:
    if isinstance(value, str):
        value = {"layout": value}
    if not isinstance(value, dict):
        raise RegroupError(f"{path}: masks: the name of a layout, or a mapping of `layout` and its options")
    options = {str(key): part for key, part in value.items() if key != "layout"}
    layout = str(value.get("layout", "ids"))
    try:
        LAYOUTS.check(layout)
    except RegroupError as error:
        raise RegroupError(f"{path}: masks.layout: {error}") from None
    return Masks(layout=layout, options=LAYOUTS.options(layout, options, where=f"{path}: masks"))
