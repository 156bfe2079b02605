"""Archives that lie, climb, burst or cannot be read: one message, nothing unpacked, nothing lost."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.sources import unpack as unpacking
from regroup.sources.download import download_source
from regroup.sources.fetch import RECORD
from regroup.sources.settings import Artefact
from regroup.sources.unpack import unpack

PARTS = {"images": "there/images"}
FILES = {"images/a.jpg": b"a" * 5000, "images/b.jpg": b"b"}


def zipped(path: Path, files: Mapping[str, bytes] = FILES) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, names: list[bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode, format=tarfile.USTAR_FORMAT, encoding="utf-8") as archive:
        for name in names:
            info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    return path


def patched(path: Path, flags: int | None = None, method: int | None = None) -> Path:
    """The zip with other flags, or another method, in all headers of its first member."""
    content = bytearray(path.read_bytes())
    for at in (content.index(b"PK\x03\x04") + 6, content.index(b"PK\x01\x02") + 8):
        if flags is not None:
            content[at : at + 2] = struct.pack("<H", flags)
        if method is not None:
            content[at + 2 : at + 4] = struct.pack("<H", method)
    path.write_bytes(content)
    return path


def refused(archive: Path, folder: Path) -> str:
    """The message; nothing has been unpacked, nothing is left over."""
    before = archive.read_bytes()
    with pytest.raises(RegroupError) as raised:
        unpack(archive, folder, PARTS)
    assert not [path for path in folder.rglob("*") if path.is_file()]
    assert archive.read_bytes() == before
    message = str(raised.value)
    message.encode()  # can be printed
    assert str(archive) in message
    return message


def test_an_encrypted_archive_is_called_so(tmp_path: Path) -> None:
    message = refused(patched(zipped(tmp_path / "one.zip"), flags=1), tmp_path / "out")
    assert "'images/a.jpg' is encrypted" in message
    assert "password" in message


@pytest.mark.parametrize(("method", "name"), [(9, "Deflate64"), (93, "Zstandard"), (42, "method 42")])
def test_a_method_that_cannot_be_read_is_named(tmp_path: Path, method: int, name: str) -> None:
    message = refused(patched(zipped(tmp_path / "one.zip"), method=method), tmp_path / "out")
    assert f"'images/a.jpg' is packed by {name}, which Python cannot read" in message
    assert "Unpack it by hand" in message


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_bytes_that_are_flipped_or_gone_are_damage_or_no_matter(tmp_path: Path, kind: str) -> None:
    """Whatever byte it is: one message that says what to do, or the right files."""
    archive = tmp_path / f"one.{kind}"
    if kind == "zip":
        whole = zipped(archive).read_bytes()
    else:
        mode = "w:" + kind.partition(".")[2]
        whole = tarred(archive, [b"images/a.jpg", b"images/b.jpg"], mode).read_bytes()
    where = random.Random(1)
    for _ in range(60):
        content = bytearray(whole)
        content[where.randrange(len(content))] ^= 1 << where.randrange(8)
        archive.write_bytes(content if where.random() < 0.7 else content[: where.randrange(len(content))])
        try:
            unpack(archive, tmp_path / "out", PARTS)
        except RegroupError as error:
            str(error).encode()
        assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize("content", [b"", b"<html>", 2000 * b"\0", b"PK\x05\x06" + 18 * b"\xff"])
def test_what_is_no_archive_is_called_damaged_or_another(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "one").write_bytes(content)
    message = refused(tmp_path / "one", tmp_path / "out")
    assert "damaged" in message or "is it another archive?" in message


def test_a_zip_that_bursts_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    """Its central directory says 4 GB for some bytes, again and again."""
    archive = zipped(tmp_path / "one.zip")
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 2**32 - 2)
    archive.write_bytes(content)
    assert "unpack to more than 500 MB" in refused(archive, tmp_path / "out")


def test_a_tar_that_bursts_is_not_read_to_its_end(tmp_path: Path) -> None:
    info = tarfile.TarInfo("images/zeros")
    info.size = 10**15
    (tmp_path / "one.tar.gz").write_bytes(gzip.compress(info.tobuf()))
    assert "unpack to more than" in refused(tmp_path / "one.tar.gz", tmp_path / "out")


def test_an_archive_of_countless_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "_MOST_FILES", 1)
    assert "more than 1 files" in refused(zipped(tmp_path / "one.zip"), tmp_path / "out")


def test_names_that_are_not_utf8_are_refused_where_they_are_wanted(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "one.tar", [b"images/a.jpg", b"images/\xff.jpg"])
    assert "is not UTF-8" in refused(archive, tmp_path / "out")
    assert unpack(tarred(tmp_path / "two.tar", [b"images/a", b"other/\xff"]), tmp_path / "out", PARTS) == 1
    name = zipped(tmp_path / "three.zip", {"images/é.jpg": b"x"})
    name.write_bytes(name.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(RegroupError, match=r"three\.zip: a name in it is not UTF-8"):
        unpack(name, tmp_path / "out", PARTS)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([b"images/a", b"images/a"], "'images/a' comes twice"),
        ([b"images/a", b"./images/./a"], "'images/a' comes twice"),
        ([b"images/a", b"images/A"], "'images/A' and 'images/a' are one file where case does not count"),
        ([b"images/a", b"images/a/b"], "'images/a' is a file, and the folder of 'images/a/b'"),
    ],
)
def test_two_files_of_one_place_are_refused(tmp_path: Path, names: list[bytes], words: str) -> None:
    assert words in refused(tarred(tmp_path / "one.tar", names), tmp_path / "out")


# --- where it goes


def test_a_place_that_is_a_link_is_followed(tmp_path: Path) -> None:
    """A large part may lie on another disk."""
    (tmp_path / "big/images").mkdir(parents=True)
    (tmp_path / "out/there").mkdir(parents=True)
    (tmp_path / "out/there/images").symlink_to(tmp_path / "big/images")
    unpack(zipped(tmp_path / "one.zip"), tmp_path / "out", PARTS)
    assert (tmp_path / "out/there/images").is_symlink()
    assert sorted(path.name for path in (tmp_path / "big/images").iterdir()) == ["a.jpg", "b.jpg"]
    assert [path.name for path in (tmp_path / "big").iterdir()] == ["images"]


def test_a_place_that_cannot_be_written_is_not_the_archives_fault(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/there").write_text("a file where a folder should be")
    with pytest.raises(
        RegroupError, match=r"out/there: File exists; .*one\.zip was not unpacked, and is not to blame"
    ):
        unpack(zipped(tmp_path / "one.zip"), tmp_path / "out", PARTS)


ONE = {"coco-train2017": Artefact(file="one.zip", urls=("http://127.0.0.1:9/one.zip",), unpack=PARTS)}


@pytest.fixture
def only_one_artefact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "regroup.sources.download.missing_artefacts",
        lambda name, folder: {} if (folder / "there/images/a.jpg").exists() else ONE,
    )


@pytest.mark.usefixtures("only_one_artefact")
def test_a_link_to_nothing_is_said_before_anything_is_fetched(tmp_path: Path) -> None:
    (tmp_path / "root/there").mkdir(parents=True)
    (tmp_path / "root/there/images").symlink_to(tmp_path / "unplugged")
    zipped(tmp_path / "one.zip")
    with pytest.raises(RegroupError, match=r"images: a link to .*unplugged, which does not exist; make that"):
        download_source("coco", root=tmp_path / "root", url=str(tmp_path / "gone"))
    (tmp_path / "unplugged").mkdir()
    download_source("coco", root=tmp_path / "root", url=str(tmp_path), progress=False)
    assert (tmp_path / "unplugged/a.jpg").is_file()


@pytest.mark.usefixtures("only_one_artefact")
def test_an_archive_that_proves_wrong_when_it_is_used_is_not_remembered(tmp_path: Path) -> None:
    """What its message says can be done, and then works."""
    root, had = tmp_path / "root", tmp_path / "had"
    had.mkdir()
    zipped(had / "one.zip", {"something/else": b"x"})
    with pytest.raises(RegroupError, match=r"has no images; is it another archive\?"):
        download_source("coco", root=root, url=str(had))
    content = bytearray(zipped(had / "one.zip").read_bytes())
    content[content.index(b"images/a.jpg") + 14] ^= 255
    (had / "one.zip").write_bytes(content)
    with pytest.raises(
        RegroupError, match=r"one\.zip: damaged .*put the right file there, or set `url` to null"
    ):
        download_source("coco", root=root, url=str(had))
    zipped(had / "one.zip")
    download_source("coco", root=root, url=str(had))
    assert (root / "there/images/a.jpg").read_bytes() == FILES["images/a.jpg"]
    assert (root / "archives" / RECORD).is_file()
