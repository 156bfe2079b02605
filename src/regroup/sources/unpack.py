"""Archives into folders: the parts that are wanted, whole or not at all, and never outside their folder."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from regroup.errors import RegroupError
from regroup.sources.transfer import check_room, raise_if_full

_DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError),
    *(FileExistsError, IsADirectoryError, NotADirectoryError),  # two members of one name
)


@dataclass(frozen=True)
class _Member:
    """A file of an archive: its name, its size, and what the archive knows it by."""

    name: str
    size: int
    info: zipfile.ZipInfo | tarfile.TarInfo


_Reader = Callable[[_Member], IO[bytes]]


def unpack(archive: Path, folder: Path, parts: Mapping[str, str], *, progress: bool = False) -> int:
    """Unpack parts of a zip or tar archive.

    Everything goes into a temporary folder first; then each part is moved to its place, so that a part that
    is there is complete.

    Args:
        archive: the archive.
        folder: where the parts go.
        parts: path of a file or folder in the archive -> its path below `folder`; what stands there is
            replaced.
        progress: show a progress bar.

    Returns:
        The number of files unpacked.

    Raises:
        RegroupError: the archive is damaged, lacks a part, has a file that would leave its folder or a link
            among the parts, or does not fit on the disk. Nothing is in place then.
    """
    temporary = folder / f".{archive.name}.unpacking"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        with _opened(archive) as (members, read):
            wanted = [member for member in members if _part_of(member.name, parts) is not None]
            lacking = [part for part in parts if not any(_inside(one.name, part) for one in wanted)]
            if lacking:
                raise RegroupError(f"{archive}: has no {', '.join(lacking)}; is it another archive?")
            check_room(temporary, sum(member.size for member in wanted))
            for member in tqdm(wanted, desc=f"unpack {archive.name}", unit="file", disable=not progress):
                _refuse_links(archive, member)
                target = temporary / PurePosixPath(member.name)
                target.parent.mkdir(parents=True, exist_ok=True)
                with read(member) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
        for part, place in parts.items():
            _move(temporary / part, folder / place)
    except _DAMAGE as error:
        raise RegroupError(f"{archive}: damaged ({error}); remove the file, and it is fetched anew") from None
    except OSError as error:
        raise_if_full(error, archive)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return len(wanted)


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[list[_Member], _Reader]]:
    """The files of an archive, whose names have been checked, and how to read one."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            infos = [info for info in packed.infolist() if not info.is_dir()]
            members = [_Member(_safe(archive, info.filename), info.file_size, info) for info in infos]
            yield members, lambda member: packed.open(member.info)  # type: ignore[arg-type]
    else:
        with tarfile.open(archive) as packed_tar:
            entries = [info for info in packed_tar if not info.isdir()]
            members = [_Member(_safe(archive, info.name), info.size, info) for info in entries]
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
            f"{archive}: {name!r} leaves the folder it is unpacked into; nothing was unpacked. Do not use"
            " this file"
        )
    return str(path)


def _refuse_links(archive: Path, member: _Member) -> None:
    if isinstance(member.info, tarfile.TarInfo):
        regular = member.info.isreg()
    else:
        kind = stat.S_IFMT(member.info.external_attr >> 16)
        regular = kind in (0, stat.S_IFREG)
    if not regular:
        raise RegroupError(
            f"{archive}: {member.name!r} is a link or a device; nothing was unpacked. Do not use this file"
        )


def _part_of(name: str, parts: Mapping[str, str]) -> str | None:
    return next((part for part in parts if _inside(name, part)), None)


def _inside(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}/")


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    source.replace(target)
