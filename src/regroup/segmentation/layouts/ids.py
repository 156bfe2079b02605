"""A mask picture for each image: of class ids, or of values or colours that the protocol maps to classes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from regroup.errors import RegroupError
from regroup.pictures import Ids, read_colour_mask, read_mask
from regroup.segmentation.layouts import Sample
from regroup.segmentation.layouts._pairs import PairOptions, pairs
from regroup.segmentation.layouts._values import binary_words, few, is_filled, refuse_binary, values

if TYPE_CHECKING:
    from regroup.segmentation.protocols import Protocol

MOST = 65_535
"""The largest value of a mask of 16 bits."""

_HEX = re.compile(r"^#[0-9a-fA-F]{6}$")


def _colour(value: Any) -> int:
    """`"#rrggbb"` or [red, green, blue] as one number, red first."""
    if isinstance(value, str) and _HEX.match(value):
        return int(value[1:], 16)
    triple = isinstance(value, list | tuple) and len(value) == 3
    if triple and all(type(part) is int and 0 <= part <= 255 for part in value):
        return (int(value[0]) << 16) + (int(value[1]) << 8) + int(value[2])
    raise ValueError(f'{value!r} is no colour; write [red, green, blue] of 0 to 255, or "#rrggbb"')


def _colours(value: Any) -> Any:
    one = isinstance(value, str) or (isinstance(value, list | tuple) and value and type(value[0]) is int)
    return (
        [_colour(part) for part in ([value] if one else value)] if one or isinstance(value, list) else value
    )


def _values(value: Any) -> Any:
    return [value] if type(value) is int else value


Value = Annotated[int, Field(ge=0, le=MOST)]
Values = Annotated[tuple[Value, ...], BeforeValidator(_values)]
Colours = Annotated[tuple[Annotated[int, Field(ge=0, le=0xFFFFFF)], ...], BeforeValidator(_colours)]


class Options(PairOptions):
    """What the pixels of a mask mean; without `values` and `colours` they are positions in the classes.

    Attributes:
        reduce_zero_label: 0 is not scored and 1 is the first class.
        values: class -> the value or values that stand for it.
        colours: class -> its colour or colours, of masks that are colour pictures.
        ignore: values that are not scored (255; of more than 255 classes 65535).
        ignore_colours: colours that are not scored.
        others: what all other values or colours are: `error`, `ignore`, or the name of a class.
    """

    reduce_zero_label: bool = False
    values: dict[str, Values] | None = None
    colours: dict[str, Colours] | None = None
    ignore: Values | None = None
    ignore_colours: Colours = ()
    others: str = "error"

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Options:
        ways = [key for key in ("values", "colours", "reduce_zero_label") if getattr(self, key)]
        if len(ways) > 1:
            raise ValueError(f"`{ways[0]}` and `{ways[1]}` say twice what a pixel means; keep one of them")
        if self.colours is not None and self.ignore is not None:
            raise ValueError("`ignore` is for masks of values; name colours under `ignore_colours`")
        if self.ignore_colours and self.colours is None:
            raise ValueError("`ignore_colours` needs `colours`")
        if self.others != "error" and self.values is None and self.colours is None:
            raise ValueError("`others` needs `values` or `colours`")
        given: list[tuple[str, int]] = [
            (name, one)
            for table in (self.values, self.colours)
            for name, some in (table or {}).items()
            for one in some
        ]
        given += [("`ignore`", one) for one in (*(self.ignore or ()), *self.ignore_colours)]
        first: dict[int, str] = {}
        for name, one in given:
            if first.setdefault(one, name) != name:
                shown = _hex(one) if self.colours is not None else str(one)
                raise ValueError(f"{shown} stands for {first[one]} and for {name}")
        return self


def check(protocol: Protocol) -> None:
    """Check the options against the classes.

    Raises:
        ValueError: a class that the protocol does not have, or one that no value stands for.
    """
    options = options_of(protocol)
    for key in ("values", "colours"):
        table: Mapping[str, Any] | None = getattr(options, key)
        if table is None:
            continue
        if unknown := [name for name in table if name not in protocol.classes]:
            raise ValueError(f"masks.{key}: {unknown[0]!r} is none of `classes`")
        if missing := [one for one in protocol.classes if not table.get(one) and one != options.others]:
            raise ValueError(f"masks.{key}: nothing stands for {', '.join(missing[:5])}")
    if options.others not in ("error", "ignore", *protocol.classes):
        raise ValueError(
            f"masks.others: {options.others!r} is neither `error`, `ignore` nor one of `classes`"
        )
    if options.values is None and options.colours is None:
        first = int(options.reduce_zero_label)
        if both := [one for one in options.ignore or () if first <= one < first + len(protocol.classes)]:
            name = protocol.classes[both[0] - first]
            raise ValueError(f"masks.ignore: {both[0]} stands for {name!r}, which would never be scored")
    if protocol.background and options.reduce_zero_label:
        raise ValueError("`reduce_zero_label` ignores the background: set `background: false`")


def options_of(protocol: Protocol) -> Options:
    """The protocol's options of this layout."""
    options = protocol.masks.options
    assert isinstance(options, Options)
    return options


def find(protocol: Protocol, root: Path, split: str) -> list[Sample]:
    """Images and their masks; errors as `pairs`."""
    return pairs(protocol, options_of(protocol), root, split)


def look(samples: Sequence[Sample], protocol: Protocol) -> None:
    """Look into a few of the masks.

    Raises:
        RegroupError: their values are class ids, and all of them hold 0 and 255 alone.
    """
    options = options_of(protocol)
    if options.values is None and options.colours is None:
        refuse_binary(samples, protocol, expected(protocol))


def read(sample: Sample, protocol: Protocol, height: int, width: int) -> Ids:
    """The mask of one image.

    Raises:
        RegroupError: unreadable, with values or colours that mean nothing here, or with 0 and 255 alone as a
            binary mask has; says which values it holds and which are expected.
    """
    path, options = sample.mask, options_of(protocol)
    if options.colours is not None:
        return _from_colours(path, protocol, options)
    raw = read_mask(path)
    seen = values(raw)
    table = _table(protocol, options)
    if outside := [i for i in seen if table[i] < 0]:
        raise RegroupError(
            f"{path}: ids {few(outside)} are outside the {len(protocol.classes)} classes of protocol "
            f"{protocol.name}; expected are {expected(protocol)}; is this another dataset's mask?"
        )
    if options.values is None and seen == [0, 255] and is_filled(raw == 255):
        raise RegroupError(f"{path}: {binary_words(protocol.name, expected(protocol))}")
    return np.asarray(table[raw].astype(protocol.mask_type))


def expected(protocol: Protocol) -> str:
    """The values that masks of a protocol may have, in words."""
    options = options_of(protocol)
    unscored = [str(i) for i in _ignored(protocol, options)]
    if options.values is not None:
        named = sorted(one for some in options.values.values() for one in some)
        return f"ids {few(named)}, and {_listed(unscored)} where nothing is scored"
    first, last = (1, len(protocol.classes)) if options.reduce_zero_label else (0, len(protocol.classes) - 1)
    if options.reduce_zero_label:
        unscored = ["0", *unscored]
    return f"ids {first} to {last}, and {_listed(unscored)} where nothing is scored"


def _listed(words: Sequence[str]) -> str:
    return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"


def _ignored(protocol: Protocol, options: Options) -> tuple[int, ...]:
    """Mask values that are not scored; what stands for a class is scored."""
    if options.ignore is not None:
        return options.ignore
    named = {one for some in (options.values or {}).values() for one in some}
    return tuple(one for one in (protocol.ignored,) if one not in named)


def _table(protocol: Protocol, options: Options) -> NDArray[np.int32]:
    """Lookup [65536] from mask values to class ids, -1 for what means nothing."""
    number = len(protocol.classes)
    table = np.full(MOST + 1, _others(protocol, options), dtype=np.int32)
    if options.values is not None:
        for name, some in options.values.items():
            table[list(some)] = protocol.classes.index(name)
    elif options.reduce_zero_label:
        table[0] = protocol.ignored
        table[1 : number + 1] = np.arange(number)
    else:
        table[:number] = np.arange(number)
    table[list(_ignored(protocol, options))] = protocol.ignored
    return table


def _others(protocol: Protocol, options: Options) -> int:
    if options.others == "error":
        return -1
    return protocol.ignored if options.others == "ignore" else protocol.classes.index(options.others)


def _from_colours(path: Path, protocol: Protocol, options: Options) -> Ids:
    """Class ids [H, W] of a colour mask."""
    raw = read_colour_mask(path).astype(np.int32)
    packed = (raw[..., 0] << 16) + (raw[..., 1] << 8) + raw[..., 2]
    meaning = dict(_meanings(protocol, options))
    known = np.array(sorted(meaning), dtype=np.int32)
    ids = np.array([meaning[int(colour)] for colour in known], dtype=np.int32)
    place = np.searchsorted(known, packed).clip(max=len(known) - 1)
    found = np.where(known[place] == packed, ids[place], _others(protocol, options))
    if (strange := found < 0).any():
        outside = [_hex(int(one)) for one in np.unique(packed[strange])]
        raise RegroupError(
            f"{path}: colours {few(outside)} are none of protocol {protocol.name}; name them under "
            "`masks.colours` or `masks.ignore_colours`, or say what `masks.others` are"
        )
    return np.asarray(found.astype(protocol.mask_type))


def _meanings(protocol: Protocol, options: Options) -> Iterator[tuple[int, int]]:
    for name, some in (options.colours or {}).items():
        for colour in some:
            yield colour, protocol.classes.index(name)
    for colour in options.ignore_colours:
        yield colour, protocol.ignored


def _hex(colour: int) -> str:
    return f"#{colour:06x}"
