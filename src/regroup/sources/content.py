"""What a file is by its first bytes: a login page that is named like an archive is none."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

SAMPLE = 512
"""Bytes that are looked at; a tar's first header is as long."""

_ZIP, _EMPTY_ZIP = b"PK\x03\x04", b"PK\x05\x06"
_PACKED = {".gz": b"\x1f\x8b", ".tgz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\x00"}
_PICKLE = b"\x80"  # then the protocol's number; older PyTorch files begin so, newer ones are zips


def is_web_page(start: bytes) -> bool:
    """Whether a file that begins so is HTML."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    while text.startswith(b"<?xml") or text.startswith(b"<!--"):
        _, closed, text = text.partition(b"?>" if text.startswith(b"<?xml") else b"-->")
        text = text.lstrip() if closed else b""
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<body"))


def why_not(path: Path, name: str) -> str | None:
    """Why a file cannot be what its name says, by its first bytes and, of a zip, its last; None if it can.

    Args:
        path: the file.
        name: its published name; what ends in no known suffix is only known not to be a web page.
    """
    with path.open("rb") as file:
        start = file.read(SAMPLE)
    suffix = Path(name).suffix.lower()
    if not start:
        return "is empty"
    if is_web_page(start):
        return "is a web page (to log in, or about an error)"
    if suffix == ".zip":
        if not start.startswith((_ZIP, _EMPTY_ZIP)) and not zipfile.is_zipfile(path):
            return "is no zip archive"
        return None if zipfile.is_zipfile(path) else "is a zip archive whose end is missing"
    if suffix == ".tar":
        return None if _begins_a_tar(start) else "is no tar archive"
    if suffix in _PACKED:
        return None if start.startswith(_PACKED[suffix]) else f"is no file of the kind {suffix}"
    if suffix == ".json":
        text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
        return None if text.startswith((b"{", b"[")) else "is no JSON file"
    if suffix in (".pth", ".pt", ".bin"):
        return None if start.startswith((_ZIP, _PICKLE)) else "is no checkpoint of PyTorch"
    return None


def _begins_a_tar(start: bytes) -> bool:
    if not start.strip(b"\0"):
        return True  # an empty archive
    try:
        tarfile.TarInfo.frombuf(start, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
