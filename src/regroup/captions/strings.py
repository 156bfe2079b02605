"""Lists of strings, one a caption, as numbers: each distinct string is kept once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]


@dataclass(frozen=True)
class StringLists:
    """N lists of strings: list i is `strings[k]` for k in `ids[offsets[i]:offsets[i + 1]]`."""

    strings: tuple[str, ...]
    offsets: Int64
    ids: Int32

    def __len__(self) -> int:
        """Number of lists."""
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> tuple[str, ...]:
        """One list."""
        ids = self.ids[self.offsets[row] : self.offsets[row + 1]].tolist()
        return tuple([self.strings[number] for number in ids])

    def take(self, rows: Int64) -> StringLists:
        """The lists of these rows, in this order."""
        lengths = np.diff(self.offsets)[rows]
        offsets = _offsets(lengths)
        starts = np.repeat(self.offsets[rows] - offsets[:-1], lengths)
        return StringLists(self.strings, offsets, self.ids[starts + np.arange(offsets[-1])])

    def distinct(self) -> StringLists:
        """Each list without repeats, in the order of first appearance."""
        rows = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        _, first = np.unique(rows << 32 | self.ids, return_index=True)
        kept = np.sort(first)
        return StringLists(
            self.strings, _offsets(np.bincount(rows[kept], minlength=len(self))), self.ids[kept]
        )

    def sorted(self) -> StringLists:
        """The same lists with the strings in order, and without strings that no list holds."""
        used = np.flatnonzero(np.bincount(self.ids, minlength=len(self.strings))).tolist()
        order = sorted(used, key=self.strings.__getitem__)
        place = np.zeros(len(self.strings), dtype=np.int32)
        place[order] = np.arange(len(order))
        return StringLists(tuple(self.strings[k] for k in order), self.offsets, place[self.ids])

    def counts(self) -> list[tuple[str, int]]:
        """(string, how often), most frequent first, equals by string."""
        counts = np.bincount(self.ids, minlength=len(self.strings)).tolist()
        found = [(text, count) for text, count in zip(self.strings, counts, strict=True) if count]
        return sorted(found, key=lambda item: (-item[1], item[0]))


class Encoder:
    """Builds `StringLists` list by list."""

    def __init__(self) -> None:
        """Start without lists."""
        self._number: dict[str, int] = {}
        self._ids: list[int] = []
        self._lengths: list[int] = []

    def append(self, strings: Sequence[str]) -> None:
        """Add a list."""
        number = self._number
        self._ids += [number.setdefault(text, len(number)) for text in strings]
        self._lengths.append(len(strings))

    def lists(self) -> StringLists:
        """All lists added."""
        lengths = np.array(self._lengths, dtype=np.int64)
        return StringLists(tuple(self._number), _offsets(lengths), np.array(self._ids, dtype=np.int32))


def concatenate(parts: Iterable[StringLists]) -> StringLists:
    """The lists of all parts, one after the other."""
    number: dict[str, int] = {}
    ids, lengths = [np.zeros(0, dtype=np.int32)], [np.zeros(0, dtype=np.int64)]
    for part in parts:
        table = np.array([number.setdefault(text, len(number)) for text in part.strings], dtype=np.int32)
        ids.append(table[part.ids])
        lengths.append(np.diff(part.offsets))
    return StringLists(tuple(number), _offsets(np.concatenate(lengths)), np.concatenate(ids))


def _offsets(lengths: Int64) -> Int64:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
