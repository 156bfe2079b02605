"""Evaluation protocols: class names, prompt, background, label reduction, and where the masks come from.

A protocol is a file of `protocols/`; its class names are part of it, since other words for the same classes
move scores by points.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field

from regroup.captions.prompts import INFERENCE_TEMPLATE
from regroup.errors import RegroupError
from regroup.segmentation.settings import ProtocolName
from regroup.settings import Settings, parse, read_yaml

IGNORED = 255
"""Mask value of pixels that are not scored."""

MaskKind = Literal["ids", "stuffthingmaps", "instances"]


class Protocol(Settings):
    """What is scored on a dataset, and against which masks.

    `images` and `labels` are paths below the raw data's root with `{split}` in them: folders, or for
    `instances` the annotation file. `list` is a text file of image stems; without it every image of the
    folder is scored. Mask values are positions in `classes`; with `reduce_zero_label` 0 is ignored and 1 is
    the first class.
    """

    name: str
    title: str
    source: str
    classes: tuple[str, ...]
    threshold: float = Field(ge=0, le=1)
    background: bool
    reduce_zero_label: bool = False
    template: str = INFERENCE_TEMPLATE
    masks: MaskKind
    images: str
    labels: str
    list: str | None = None
    splits: Mapping[str, str] = Field(default={})

    def path(self, root: Path, pattern: str, split: str) -> Path:
        """A path of this protocol below `root`, for a split (`train` or `val`)."""
        return root / pattern.format(split=self.splits.get(split, split))

    def labelled(self) -> Labels:
        """All of the protocol's classes."""
        return self.restricted(self.classes)

    def restricted(self, names: Iterable[str]) -> Labels:
        """Only the classes called `names`; the background, if there is one, always stays.

        Masks keep the protocol's ids: pixels of a class that is left out count as errors, and its IoU is 0,
        but it is never predicted.

        Raises:
            RegroupError: a name that the protocol does not have, none at all, or one twice.
        """
        names = check_names(names, f"protocol {self.name}")
        unknown = sorted(set(names) - set(self.classes))
        if unknown:
            raise RegroupError(f"protocol {self.name}: no class is called {', '.join(map(repr, unknown))}")
        first = 1 if self.background else 0
        prompted = [i for i, name in enumerate(self.classes) if i >= first and name in set(names)]
        if not prompted:
            raise RegroupError(f"protocol {self.name}: no class is left but the background")
        return Labels(
            prompts=tuple(self.template.replace("{}", self.classes[i]) for i in prompted),
            ids=((0, *prompted) if self.background else tuple(prompted)),
            background=self.background,
        )


@dataclass(frozen=True)
class Labels:
    """What can be predicted.

    Attributes:
        prompts: one text a class, without the background.
        ids: the id that stands for each score channel in predictions, ascending; the background's is first.
        background: whether there is a background channel, which has no prompt.
    """

    prompts: tuple[str, ...]
    ids: tuple[int, ...]
    background: bool


def free_labels(names: Sequence[str], *, background: bool, template: str = INFERENCE_TEMPLATE) -> Labels:
    """Labels for class names of one's own: ids 1, 2, ... with a background at 0, else 0, 1, ...

    Raises:
        RegroupError: no name, an empty one, or one twice.
    """
    names = check_names(names, "classes")
    first = int(background)
    return Labels(
        tuple(template.replace("{}", name) for name in names), tuple(range(len(names) + first)), background
    )


def check_names(names: Iterable[str], where: str) -> tuple[str, ...]:
    """Drop spaces around names; refuse a list that is empty, or has an empty name or a name twice.

    Raises:
        RegroupError: names the offender.
    """
    cleaned = tuple(name.strip() for name in names)
    if not cleaned:
        raise RegroupError(f"{where}: the list of class names is empty; name at least one")
    if "" in cleaned:
        raise RegroupError(f"{where}: a class name is empty")
    twice = sorted(name for name, count in Counter(cleaned).items() if count > 1)
    if twice:
        raise RegroupError(f"{where}: class named twice: {', '.join(twice)}; keep one of each")
    return cleaned


@cache
def load_protocol(name: str) -> Protocol:
    """Read one of the protocols that come with the package.

    Raises:
        RegroupError: no protocol has this name.
    """
    return read_protocol(protocol_file(name))


def protocol_file(name: str) -> Path:
    """Where a protocol of the package is written down.

    Raises:
        RegroupError: no protocol has this name.
    """
    known = get_args(ProtocolName)
    if name not in known:
        raise RegroupError(f"protocol {name!r}: unknown; there are {', '.join(known)}")
    return Path(__file__).with_name("protocols") / f"{name}.yaml"


def read_protocol(path: Path) -> Protocol:
    """Read a protocol file; its name is the file's.

    Raises:
        RegroupError: the file is missing, a key is wrong, or the class list is empty or names a class twice.
    """
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise RegroupError(f"{path}: a protocol is a mapping of keys to values")
    protocol = parse(Protocol, {"name": path.stem, **value}, path)
    check_names(protocol.classes, f"{path}: classes")
    if protocol.background and protocol.reduce_zero_label:
        raise RegroupError(f"{path}: `reduce_zero_label` ignores the background: set `background: false`")
    return protocol
