"""Files of `torch.save`, today's (a zip) and that of before version 1.6: tensors, and names for the rest."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from regroup.errors import RegroupError, shown
from regroup.model.foreign import Foreign, Machine, Storage, StoredTensor

MOST_PICKLE = 2**28
"""Bytes of a checkpoint's pickle, in which no tensor's numbers lie."""

MOST_REPEATED = 2**30
"""Bytes of tensors that a file may hold beyond twice its own size, by sharing and repeating numbers."""

_MAGIC = 0x1950A86A20F9469CFC6C  # the first value of a file from before version 1.6


class TensorFile:
    """A file of `torch.save`.

    Attributes:
        content: what was saved: dicts, lists, numbers and texts as they were, a `StoredTensor` for each
            tensor and a `Foreign` for everything else.
    """

    def __init__(self, path: Path) -> None:
        """Read all but the tensors' numbers; nothing in the file is run.

        Raises:
            RegroupError: the file is no such file, is damaged or is too large to be one.
        """
        self._path = path
        self._kept: dict[str, Tensor] = {}
        self._given = 0
        try:
            with path.open("rb") as file:
                start = file.read(512)
                file.seek(0)
                if start.startswith(b"PK\x03\x04"):
                    self.content, self._places = self._open_zip(file)
                elif start.startswith(b"\x80"):
                    self.content, self._places = self._open_old(file)
                else:
                    raise RegroupError(f"it is no file of torch.save: {_what_it_is(start)}")
        except RegroupError as error:
            raise RegroupError(f"{path}: {error}") from None
        except Exception as error:  # whatever a damaged or hostile file brings about
            raise RegroupError(
                f"{path}: damaged, or no file of torch.save ({shown(error) or type(error).__name__}); "
                "check the download against its digest"
            ) from None

    def tensor(self, stored: StoredTensor, name: str) -> Tensor:
        """The numbers of one tensor; tensors that shared memory share it again.

        Raises:
            RegroupError: they are not all there, or the description contradicts the file.
        """
        try:
            stored.check()
            assert stored.storage is not None
            # a view may repeat numbers without end, until somebody copies it
            self._given += stored.bytes
            if self._given > 2 * self._path.stat().st_size + MOST_REPEATED:
                raise ValueError("the tensors claim far more numbers than the file holds")
            whole = self._numbers(stored.storage).view(stored.dtype)
            return whole.as_strided(stored.size, stored.stride, stored.storage.first + stored.offset)
        except RegroupError as error:
            raise RegroupError(f"{self._path}: {shown(name)}: {error}") from None
        except Exception as error:
            raise RegroupError(
                f"{self._path}: {shown(name)}: its numbers cannot be read: {shown(error)}"
            ) from None

    def _numbers(self, storage: Storage) -> Tensor:
        if storage.key not in self._kept:
            place = self._places[storage.key]
            if place.size < storage.count * storage.dtype.itemsize:
                raise ValueError(f"{place.size} bytes are too few for {storage.count} numbers")
            with self._path.open("rb") as file:
                content = place.read(file)
            whole = place.size - place.size % storage.dtype.itemsize
            numbers = torch.frombuffer(content, dtype=torch.uint8)[:whole] if whole else torch.empty(0)
            self._kept[storage.key] = numbers.view(storage.dtype) if whole else numbers.to(storage.dtype)
        return self._kept[storage.key]

    def _open_zip(self, file: IO[bytes]) -> tuple[Any, dict[str, _Place]]:
        entries = {info.filename: info for info in zipfile.ZipFile(file).infolist()}
        pickles = [name for name in entries if name == "data.pkl" or name.endswith("/data.pkl")]
        if not pickles:
            raise RegroupError("it is a zip archive, but not one of torch.save: there is no data.pkl in it")
        if any(name.endswith("constants.pkl") for name in entries):
            raise RegroupError(
                "it is a TorchScript program, which is not run; save its `torch.jit.load(file).state_dict()`"
            )
        if any(info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 for info in entries.values()):
            raise RegroupError(
                "its parts are compressed or encrypted, which torch.save never does; unpack it and save the "
                "tensors again"
            )
        if sum(info.file_size for info in entries.values()) > self._path.stat().st_size:
            raise RegroupError("its parts are larger than the file")  # in a crafted archive they may overlap
        places = {name: _place(file, info) for name, info in entries.items()}
        root = pickles[0].removesuffix("data.pkl")
        if (version := places.get(f"{root}version")) and not version.intact(file):
            # torch can be told to write no checksums; then this part, of one number, has none either
            places = {name: replace(place, checksum=None) for name, place in places.items()}
        if (order := places.get(f"{root}byteorder")) and order.read(file).decode() != sys.byteorder:
            raise RegroupError("its numbers are of a processor with another order of bytes; save it again")
        if places[pickles[0]].size > MOST_PICKLE:
            raise RegroupError(f"its pickle is larger than {MOST_PICKLE >> 20} MiB")
        content = Machine().run(io.BytesIO(places[pickles[0]].read(file)))
        start = f"{root}data/"
        return content, {n.removeprefix(start): place for n, place in places.items() if n.startswith(start)}

    def _open_old(self, file: IO[bytes]) -> tuple[Any, dict[str, _Place]]:
        if Machine().run(file) != _MAGIC:
            raise RegroupError("it is a pickle, but not one of torch.save")
        for _ in ("protocol", "machine"):
            Machine().run(file)
        machine = Machine()
        content = machine.run(file)
        places = {}
        for key in Machine().run(file):
            (count,) = struct.unpack("<q", file.read(8))
            storage = machine.storages[key]
            if count != storage.count:
                raise ValueError(f"a storage of {storage.count} numbers says that it has {count}")
            places[key] = _Place(file.tell(), count * storage.dtype.itemsize)
            if file.seek(places[key].size, io.SEEK_CUR) > self._path.stat().st_size:
                raise ValueError("the file ends too early")
        return content, places


@dataclass(frozen=True)
class _Place:
    """So many bytes of a file, and what their CRC-32 is if it is known."""

    start: int
    size: int
    checksum: int | None = None

    def read(self, file: IO[bytes]) -> bytearray:
        content = bytearray(self.size)
        file.seek(self.start)
        if file.readinto(content) != self.size:  # type: ignore[attr-defined]  # every binary file has it
            raise ValueError("the file ends too early")
        if self.checksum is not None and zlib.crc32(content) != self.checksum:
            raise ValueError("its checksum is not that of its content")
        return content

    def intact(self, file: IO[bytes]) -> bool:
        return zlib.crc32(replace(self, checksum=None).read(file)) == self.checksum


def _place(file: IO[bytes], info: zipfile.ZipInfo) -> _Place:
    """Where a part's bytes are: after a head whose two last fields are lengths of what follows it."""
    file.seek(info.header_offset)
    signature, name, extra = struct.unpack("<4s22xHH", file.read(30))
    if signature != b"PK\x03\x04":
        raise ValueError("a part does not begin where the archive says")
    return _Place(info.header_offset + 30 + name + extra, info.file_size, info.CRC)


def _what_it_is(start: bytes) -> str:
    """In words, from a file's first bytes."""
    if not start:
        return "it is empty"
    if start.startswith(b"version https://git-lfs"):
        return "it is Git LFS's note of where the file lies; run `git lfs pull`"
    if start[257:262] == b"ustar":
        return "it is a tar archive, such as torch wrote before version 0.2; save it again with a newer one"
    text = start.decode(errors="replace")
    readable = sum(
        (character.isprintable() and character != "\ufffd") or character.isspace() for character in text
    )
    if readable >= 0.95 * len(text):
        return f"it is a text that begins with `{shown(text, 40)}`; check the download"
    return f"it begins with the bytes {start[:8].hex(' ')}; check the download"


def described(value: Any) -> str:
    """A few words on something that a file holds."""
    match value:
        case Foreign():
            return f"an object of {shown(value.name)}"
        case StoredTensor() | Tensor():
            return f"a tensor {list(value.size if isinstance(value, StoredTensor) else value.shape)}"
        case dict():
            inner = sum(isinstance(part, StoredTensor | Tensor) for part in value.values())
            return f"a table of {inner} tensors" if inner else f"a table of {len(value)}, none a tensor"
    return f"a {type(value).__name__}"
