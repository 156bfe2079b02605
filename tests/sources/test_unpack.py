"""Archives: the parts asked for, whole or not at all, and nothing outside the folder."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from regroup.errors import RegroupError
from regroup.sources.unpack import unpack

FILES = {"images/a.jpg": b"a" * 5000, "images/deep/b.jpg": b"b", "notes.txt": b"n", "other/c": b"c"}
PARTS = {"images": "VOC/Images", "notes.txt": "notes.txt"}


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("images")
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


Pack = Callable[[Path, Mapping[str, bytes]], Path]
both = pytest.mark.parametrize("pack", [zipped, tarred])


def found(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@both
def test_the_parts_go_to_their_places_and_the_rest_stays_packed(pack: Pack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert unpack(pack(tmp_path / "one", FILES), out, PARTS) == 3
    assert found(out) == {
        "VOC/Images/a.jpg": FILES["images/a.jpg"],
        "VOC/Images/deep/b.jpg": b"b",
        "notes.txt": b"n",
    }


@both
def test_names_may_start_with_a_dot_slash(pack: Pack, tmp_path: Path) -> None:
    unpack(pack(tmp_path / "one", {"./images/a": b"a"}), tmp_path / "out", {"images": "images"})
    assert found(tmp_path / "out") == {"images/a": b"a"}


@both
@pytest.mark.parametrize("name", ["../evil", "images/../../evil", "/tmp/evil", "..\\evil", "C:/evil"])
def test_a_file_that_climbs_out_stops_everything(pack: Pack, tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / "one", {**FILES, name: b"evil"})
    with pytest.raises(RegroupError, match=r"one: '.*evil' leaves the folder.*nothing was unpacked"):
        unpack(archive, tmp_path / "out", PARTS)
    assert found(tmp_path) == {"one": archive.read_bytes()}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = tarred(tmp_path / "one", FILES)
    with tarfile.open(archive, "a") as packed:
        link = tarfile.TarInfo("images/link")
        link.type, link.linkname = kind, "/etc/passwd"
        packed.addfile(link)
    with pytest.raises(RegroupError, match="'images/link' is a link or a device"):
        unpack(archive, tmp_path / "out", PARTS)
    assert found(tmp_path / "out") == {}


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "one", FILES)
    with zipfile.ZipFile(archive, "a") as packed:
        link = zipfile.ZipInfo("images/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
    with pytest.raises(RegroupError, match="'images/link' is a link or a device"):
        unpack(archive, tmp_path / "out", PARTS)
    assert found(tmp_path / "out") == {}


@both
def test_another_archive_is_recognised(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match=r"one: has no SegmentationClass; is it another archive\?"):
        unpack(pack(tmp_path / "one", FILES), tmp_path / "out", {"images": "i", "SegmentationClass": "s"})
    assert found(tmp_path / "out") == {}


@both
def test_a_damaged_archive_leaves_what_was_there(pack: Pack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unpack(pack(tmp_path / "one", FILES), out, PARTS)
    archive = pack(tmp_path / "one", {**FILES, "images/a.jpg": b"new" * 2000})
    content = bytearray(archive.read_bytes())
    if pack is tarred:
        del content[3000:]  # in the middle of a.jpg
    else:
        content[content.index(b"images/a.jpg") + 15] ^= 255  # of its compressed bytes
    archive.write_bytes(content)
    with pytest.raises(RegroupError, match=r"one: damaged \("):
        unpack(archive, out, PARTS)
    assert found(out)["VOC/Images/a.jpg"] == FILES["images/a.jpg"]
    assert not list(out.glob(".*"))


@both
def test_a_part_that_is_there_is_replaced_whole(pack: Pack, tmp_path: Path) -> None:
    out = tmp_path / "out"
    unpack(pack(tmp_path / "one", FILES), out, PARTS)
    unpack(pack(tmp_path / "one", {"images/new": b"x", "notes.txt": b"y"}), out, PARTS)
    assert found(out) == {"VOC/Images/new": b"x", "notes.txt": b"y"}


def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, copied = shutil.copyfileobj, 0

    def filling(source: Any, target: Any, length: int) -> None:
        nonlocal copied
        copied += 1
        if copied == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target, length)

    monkeypatch.setattr(shutil, "copyfileobj", filling)
    archive = zipped(tmp_path / "one", FILES)
    with pytest.raises(RegroupError, match="one: the disk is full; make room"):
        unpack(archive, tmp_path / "out", PARTS)
    assert found(tmp_path / "out") == {}
    assert copied == 2
