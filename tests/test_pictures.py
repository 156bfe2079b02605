"""Every kind of picture and mask has the same pixels wherever it is read, and what is none is named."""

from __future__ import annotations

import contextlib
import io
import os
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regroup import pictures
from regroup.captions.images import decode_rgb, resize_short_side
from regroup.errors import RegroupError
from regroup.pictures import BrokenImageError, picture_size, read_mask, read_picture
from regroup.segmentation.images import read_image

ORIENTATION = 0x0112


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth: int, colour: int, width: int, rows: list[bytes], *extra: bytes) -> bytes:
    """A PNG as Pillow does not write it."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    content = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", content), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def kinds() -> dict[str, bytes]:
    rgb = Image.fromarray(noise(24, 36))
    ramp = np.linspace(0, 65535, 24 * 36).astype(np.uint16).reshape(24, 36)
    return {
        "rgb": encoded(rgb, "PNG"),
        "jpeg": encoded(rgb, "JPEG"),
        "cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "grey": encoded(rgb.convert("L"), "PNG"),
        "bits": encoded(rgb.convert("1"), "PNG"),
        "palette": encoded(rgb.convert("P"), "PNG"),
        "palette with transparency": encoded(rgb.convert("P"), "PNG", transparency=3),
        "grey with alpha": encoded(rgb.convert("LA"), "PNG"),
        "alpha": encoded(Image.fromarray(noise(24, 36, 4)), "PNG"),
        "alpha webp": encoded(Image.fromarray(noise(24, 36, 4)), "WEBP", lossless=True),
        "16 bits": encoded(Image.fromarray(ramp), "PNG"),
        "16 bits tiff": encoded(Image.fromarray(ramp), "TIFF"),
        "animated gif": encoded(rgb, "GIF", save_all=True, append_images=[rgb.rotate(180)]),
        "animated webp": encoded(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)]),
        "animated png": encoded(rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)]),
        "bmp": encoded(rgb, "BMP"),
        **{f"orientation {n}": encoded(rgb, "JPEG", exif=turned(n)) for n in (2, 3, 6, 7, 8)},
    }


@pytest.mark.parametrize("kind", kinds())
def test_training_and_inference_see_the_same_pixels(kind: str, tmp_path: Path) -> None:
    content = kinds()[kind]
    path = tmp_path / "picture"
    path.write_bytes(content)
    pixels = read_image(path)
    assert pixels.dtype == np.uint8
    assert pixels.shape == ((36, 24, 3) if kind in {f"orientation {n}" for n in (6, 7, 8)} else (24, 36, 3))
    assert np.array_equal(decode_rgb(content), pixels)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_counts(kind: str) -> None:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    pixels = read_picture(encoded(red, kind, save_all=True, append_images=[blue], lossless=True))
    assert np.unique(pixels.reshape(-1, 3), axis=0).tolist() == [[255, 0, 0]]


def test_what_is_transparent_is_white_whatever_says_so() -> None:
    clear = chunk(b"tRNS", struct.pack(">H", 2))
    two_bits = png(2, 0, 4, [bytes([0b00011011])], clear)
    assert read_picture(two_bits)[0, :, 0].tolist() == [0, 85, 255, 255]
    sixteen = png(16, 0, 2, [struct.pack(">HH", 2, 3)], clear)
    assert read_picture(sixteen)[0, :, 0].tolist() == [255, 0]
    colour = png(
        16, 2, 2, [struct.pack(">6H", 9, 9, 9, 999, 9, 9)], chunk(b"tRNS", struct.pack(">3H", 9, 9, 9))
    )
    assert read_picture(colour).tolist() == [[[255, 255, 255], [3, 0, 0]]]
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 127))
    assert read_picture(encoded(half, "PNG")).tolist() == [[[128, 128, 128]]]


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_have_no_white_and_are_refused(mode: str) -> None:
    with pytest.raises(BrokenImageError, match="8 or 16 bits"):
        read_picture(encoded(Image.new(mode, (4, 4), 7), "TIFF"))


def test_pixels_lie_as_stored_only_where_asked_for() -> None:
    stored = Image.fromarray(noise(8, 12))
    content = encoded(stored, "PNG", exif=turned(6))
    assert np.array_equal(read_picture(content, upright=False), np.asarray(stored))
    assert np.array_equal(read_picture(content), np.rot90(np.asarray(stored), -1))


def test_a_tiff_is_not_turned_twice() -> None:
    stored = Image.fromarray(noise(8, 12))
    content = encoded(stored, "TIFF", tiffinfo={ORIENTATION: 6})
    assert np.array_equal(read_picture(content), np.rot90(np.asarray(stored), -1))


@pytest.mark.parametrize("kind", [b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"gAMA", b"cHRM", b"pHYs"])
def test_a_good_png_is_read_whatever_its_metadata_is(kind: bytes) -> None:
    pixels = noise(8, 12)
    whole = encoded(Image.fromarray(pixels), "PNG")
    for content in (b"", b"x", b"not a tiff header", b"a\0\0" + zlib.compress(bytes(2_000_000))):
        assert np.array_equal(read_picture(whole[:33] + chunk(kind, content) + whole[33:]), pixels)
    # nor does its checksum matter
    assert np.array_equal(read_picture(whole[:33] + chunk(kind, b"x")[:-1] + b"!" + whole[33:]), pixels)


@pytest.mark.parametrize(
    "segment", [b"\xe0JFIF\0", b"\xe1Exif\0\0II*\0", b"\xe2ICC_PROFILE\0", b"\xed8BIM", b"\xeeAdobe", b"\xfe"]
)
def test_a_good_jpeg_is_read_whatever_its_metadata_is(segment: bytes) -> None:
    whole = encoded(Image.fromarray(noise(8, 12)), "JPEG")
    for content in (b"", b"x", b"\xff" * 40):
        piece = segment[1:] + content
        marker = b"\xff" + segment[:1] + struct.pack(">H", len(piece) + 2)
        assert np.array_equal(read_picture(whole[:2] + marker + piece + whole[2:]), read_picture(whole))


def test_only_listed_formats_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\necho called > {tmp_path}/called\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = tmp_path / "x.png"
    box = "%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"
    path.write_text(f"%!PS-Adobe-3.0 EPSF-3.0\n{box}")
    for read in (read_image, read_mask, picture_size):
        with pytest.raises(RegroupError, match=r"x\.png: not a readable"):
            read(path)
    with pytest.raises(RegroupError, match="none of JPEG, PNG"):
        decode_rgb(path.read_bytes())
    assert not (tmp_path / "called").exists()
    path.write_bytes(encoded(Image.new("L", (4, 4)), "JPEG"))
    with pytest.raises(RegroupError, match=r"x\.png: not a readable mask .*none of PNG"):
        read_mask(path)


def test_a_picture_of_too_many_pixels_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    for side in (7300, 20_000):  # below and above where Pillow itself warns and refuses
        header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") * 2)
        for read in (read_picture, read_mask, picture_size):
            with pytest.raises(RegroupError, match=r"bomb\.png: .*more than the 52 megapixels"):
                read(path)


def test_a_file_of_too_many_bytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    with path.open("wb") as file:
        file.truncate(pictures.MAX_BYTES + 1)
    with pytest.raises(RegroupError, match=r"long\.png: .* MB are more than"):
        read_picture(path)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder.png").mkdir()
    for name, reason in (
        ("pipe", "not a file"),
        ("folder", "not a file"),
        ("empty", "is empty"),
        ("none", "no such image"),
    ):
        with pytest.raises(RegroupError, match=rf"{name}\.png: .*{reason}"):
            read_picture(tmp_path / f"{name}.png")


def test_a_long_picture_that_no_jpeg_can_hold_is_told() -> None:
    strip = encoded(Image.new("L", (100_000, 40)), "PNG")
    with pytest.raises(BrokenImageError, match="too long for a JPEG"):
        resize_short_side(strip, 39, jpeg_quality=90)


@pytest.mark.parametrize("kind", kinds())
def test_damaged_pictures_are_read_or_refused_and_nothing_else(kind: str, tmp_path: Path) -> None:
    content, rng = kinds()[kind], random.Random(kind)
    path = tmp_path / "damaged.png"
    for _ in range(40):
        damaged = bytearray(content[: rng.choice([len(content), rng.randrange(len(content))])])
        for _ in range(rng.choice([0, 1, 8])):
            place = rng.randrange(len(damaged) + 1)
            damaged[place : place + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"?"])
        path.write_bytes(damaged)
        for read in (read_picture, read_mask, picture_size):
            with contextlib.suppress(BrokenImageError):
                read(path)


# --- masks


def test_masks_keep_their_stored_values(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    ids = np.array([[0, 3, 1, 2]], dtype=np.uint8)
    palette = Image.fromarray(ids)
    palette.putpalette([9, 9, 9] * 4)
    for content in (
        encoded(Image.fromarray(ids), "PNG"),
        encoded(palette, "PNG", transparency=3),
        png(2, 0, 4, [bytes([0b00110110])]),
        png(4, 0, 4, [bytes([0x03, 0x12])]),
        png(16, 0, 4, [struct.pack(">4H", 0, 3, 1, 2)]),
    ):
        path.write_bytes(content)
        assert read_mask(path).tolist() == [[0, 3, 1, 2]]
    path.write_bytes(png(1, 0, 4, [bytes([0b01010000])]))
    assert read_mask(path).tolist() == [[0, 1, 0, 1]]
    path.write_bytes(png(16, 0, 2, [struct.pack(">2H", 300, 65535)]))
    assert read_mask(path).tolist() == [[300, 65535]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_colours_are_no_ids(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    path.write_bytes(encoded(Image.new(mode, (4, 4)), "PNG"))
    with pytest.raises(RegroupError, match=rf"m\.png: a mask holds ids .* not {mode} colours"):
        read_mask(path)
