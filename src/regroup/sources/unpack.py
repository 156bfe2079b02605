"""Archives into folders: the parts that are wanted, whole or not at all, and never outside their folder."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from regroup.errors import RegroupError
from regroup.sources.transfer import check_room, raise_if_full

REMEDY = "remove the file, and it is fetched anew"

_DAMAGE = (  # what zipfile, tarfile and the decompressors raise over bytes that are no archive
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, struct.error),
    *(ValueError, LookupError, OverflowError, RuntimeError, AttributeError, AssertionError, MemoryError),
)
_MOST_FILES = 2_000_000  # of an archive; COCO's largest has 118,000
_MOST_TIMES, _FREE_BYTES = (
    100,
    500e6,
)  # an archive unpacks to at most so many times its size, or so many bytes
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_NAMED_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES"}
_ENCRYPTED = 0x1  # flag of a zip's member


@dataclass(frozen=True)
class _Member:
    """A file of an archive: its name, its size, and what the archive knows it by."""

    name: str
    size: int
    info: zipfile.ZipInfo | tarfile.TarInfo


_Reader = Callable[[_Member], IO[bytes]]


def unpack(
    archive: Path, folder: Path, parts: Mapping[str, str], *, remedy: str = REMEDY, progress: bool = False
) -> int:
    """Unpack parts of a zip or tar archive.

    Each part goes into a temporary path beside its place first, and is moved when all are whole; so a part
    that is there is complete. A place that is a link to a folder is followed, as its owner means it.

    Args:
        archive: the archive.
        folder: where the parts go.
        parts: path of a file or folder in the archive -> its path below `folder`; what stands there is
            replaced.
        remedy: what the message about a damaged archive says to do.
        progress: show a progress bar.

    Returns:
        The number of files unpacked.

    Raises:
        RegroupError: the archive is damaged, encrypted or packed by a method that cannot be read; it lacks a
            part; it has a file that would leave its folder, a link, two files of one name or a name that is
            not UTF-8 among the parts; it unpacks to far more than archives do; or it does not fit on the
            disk, or a place cannot be written. Nothing is in place then.
    """
    check_places(folder, parts.values())
    places = {part: (folder / place).resolve() for part, place in parts.items()}
    halfway = {part: place.with_name(f".{place.name}.unpacking") for part, place in places.items()}
    with _damage_named(archive, folder, remedy):
        try:
            for part, place in places.items():
                place.parent.mkdir(parents=True, exist_ok=True)
                _remove(halfway[part])  # of an earlier run that was killed
            with _opened(archive) as (members, read):
                wanted = _wanted(archive, members, parts)
                for place in places.values():
                    check_room(place, sum(member.size for member in wanted))
                for member in tqdm(wanted, desc=f"unpack {archive.name}", unit="file", disable=not progress):
                    own = _part_of(member.name, parts) or ""
                    target = halfway[own] / PurePosixPath(member.name).relative_to(own)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with read(member) as source, target.open("xb") as file:
                        shutil.copyfileobj(source, file, 1 << 20)
            for part, place in places.items():
                _remove(place)
                halfway[part].replace(place)
        finally:
            for path in halfway.values():
                with suppress(OSError):
                    _remove(path)
    return len(wanted)


@contextmanager
def _damage_named(archive: Path, folder: Path, remedy: str) -> Iterator[None]:
    """What is raised inside the block over a bad archive, or over a place, as an error that names it."""
    try:
        yield
    except NotImplementedError as error:
        raise RegroupError(f"{archive}: cannot be unpacked here ({error}). {_BY_HAND}") from None
    except UnicodeDecodeError:
        raise RegroupError(
            f"{archive}: a name in it is not UTF-8; nothing was unpacked. {_BY_HAND}"
        ) from None
    except _DAMAGE as error:
        raise RegroupError(f"{archive}: damaged ({_printable(str(error))}); {remedy}") from None
    except OSError as error:
        if error.errno is None:  # of a decompressor
            raise RegroupError(f"{archive}: damaged ({error}); {remedy}") from None
        raise_if_full(error, archive)
        where = os.fsdecode(error.filename) if error.filename else str(folder)
        raise RegroupError(
            f"{_printable(where)}: {error.strerror}; {archive} was not unpacked, and is not to blame"
        ) from None


_BY_HAND = "Unpack it by hand (7-Zip reads most), or get it packed otherwise"


def check_places(folder: Path, places: Iterable[str]) -> None:
    """Check that parts can be put in place, before anything large is fetched for them.

    Raises:
        RegroupError: a place is a link to nothing or a mounted disk.
    """
    for place in places:
        path = folder / place
        for link in (path, *path.parents):
            if link == folder:
                break
            if link.is_symlink() and not link.exists():
                raise RegroupError(
                    f"{link}: a link to {link.readlink()}, which does not exist; make that folder, or"
                    " remove the link. Nothing was unpacked"
                )
        if (real := path.resolve()).is_mount():
            raise RegroupError(
                f"{path}: a disk is mounted at {real}, and no folder can be moved into its place; set"
                " `root` to a folder on that disk. Nothing was unpacked"
            )


def _wanted(archive: Path, members: Iterator[_Member], parts: Mapping[str, str]) -> list[_Member]:
    """The files of the parts, once every name and size of the archive has been looked at."""
    wanted: list[_Member] = []
    packed, size = archive.stat().st_size, 0
    most = max(_MOST_TIMES * packed, _FREE_BYTES)
    for number, member in enumerate(members):
        size += member.size
        if size > most or number >= _MOST_FILES:
            raise RegroupError(
                f"{archive}: {packed / 1e6:,.1f} MB that unpack to more than {most / 1e6:,.0f} MB, or to more"
                f" than {_MOST_FILES:,} files; nothing was unpacked. Do not use this file"
            )
        if _part_of(member.name, parts) is not None:
            _refuse_what_cannot_be_read(archive, member)
            wanted.append(member)
    lacking = [part for part in parts if not any(_inside(one.name, part) for one in wanted)]
    if lacking:
        raise RegroupError(f"{archive}: has no {', '.join(lacking)}; is it another archive?")
    _refuse_twins(archive, wanted)
    return wanted


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[Iterator[_Member], _Reader]]:
    """The files of an archive, whose names have been checked, and how to read one."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            infos = (info for info in packed.infolist() if not info.is_dir())
            members = (_Member(_safe(archive, info.filename), info.file_size, info) for info in infos)
            yield members, lambda member: packed.open(member.info)  # type: ignore[arg-type]
    else:
        with tarfile.open(archive) as packed_tar:
            entries = (info for info in packed_tar if not info.isdir())
            members = (_Member(_safe(archive, info.name), info.size, info) for info in entries)
            yield members, lambda member: _extract(packed_tar, member)


def _extract(archive: tarfile.TarFile, member: _Member) -> IO[bytes]:
    assert isinstance(member.info, tarfile.TarInfo)
    content = archive.extractfile(member.info)
    assert content is not None, member.name  # it is a regular file
    return content


def _safe(archive: Path, name: str) -> str:
    """The name of a member, if it stays inside the folder that the archive is unpacked into."""
    plain = name.removeprefix("./")
    path = PurePosixPath(plain)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]:
        raise RegroupError(
            f"{archive}: {name!a} leaves the folder it is unpacked into; nothing was unpacked. Do not use"
            " this file"
        )
    return str(path)


def _refuse_what_cannot_be_read(archive: Path, member: _Member) -> None:
    info, name = member.info, ascii(member.name)
    if isinstance(info, tarfile.TarInfo):
        regular = info.isreg()
    else:
        kind = stat.S_IFMT(info.external_attr >> 16)
        regular = kind in (0, stat.S_IFREG)
        if info.flag_bits & _ENCRYPTED:
            raise RegroupError(
                f"{archive}: {name} is encrypted; nothing was unpacked. Unpack it by hand with its password"
            )
        if info.compress_type not in _METHODS:
            method = _NAMED_METHODS.get(info.compress_type, f"method {info.compress_type}")
            raise RegroupError(
                f"{archive}: {name} is packed by {method}, which Python cannot read; nothing was unpacked."
                f" {_BY_HAND}"
            )
    if not regular:
        raise RegroupError(
            f"{archive}: {name} is a link or a device; nothing was unpacked. Do not use this file"
        )
    if any("\ud800" <= letter <= "\udfff" or letter < " " for letter in member.name):
        raise RegroupError(
            f"{archive}: the name {name} is not UTF-8, or has control characters; nothing was unpacked."
            f" {_BY_HAND}"
        )


def _refuse_twins(archive: Path, members: Iterable[_Member]) -> None:
    """Two files of one place: of one name, of names that differ only in case, or a file that is a folder."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for member in members:
        key = member.name.casefold()
        for parent in PurePosixPath(key).parents:
            if str(parent) in folders:
                break
            folders[str(parent)] = member.name
        if key in seen:
            what = f"{member.name!r} comes twice"
            if seen[key] != member.name:
                what = f"{member.name!r} and {seen[key]!r} are one file where case does not count"
            raise RegroupError(f"{archive}: {what}; nothing was unpacked. {_BY_HAND}")
        seen[key] = member.name
    if both := sorted(seen.keys() & folders.keys()):
        raise RegroupError(
            f"{archive}: {seen[both[0]]!r} is a file, and the folder of {folders[both[0]]!r}; nothing was"
            f" unpacked. {_BY_HAND}"
        )


def _part_of(name: str, parts: Mapping[str, str]) -> str | None:
    return next((part for part in parts if _inside(name, part)), None)


def _inside(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}/")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
