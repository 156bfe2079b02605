"""Images of the captions: the bytes of a shard's sample, to pixels and to smaller files."""

from __future__ import annotations

import io

from PIL import Image

from regroup.pictures import BrokenImageError, Pixels, read_picture

_LONGEST_JPEG = 65_500
"""Pixels, of either side."""


def decode_rgb(content: bytes) -> Pixels:
    """Decode an image file to uint8 [height, width, 3], upright, see `regroup.pictures`.

    Raises:
        BrokenImageError: not an image, cut short, or too large to be one.
    """
    return read_picture(content)


def resize_short_side(content: bytes, short_side: int, *, jpeg_quality: int) -> tuple[bytes, int, int] | None:
    """Shrink an image file so that its short side has `short_side` pixels.

    Returns:
        JPEG bytes, width and height; None for an image that is small enough as it is.

    Raises:
        BrokenImageError: not an image, cut short, or too large to be one.
    """
    image = Image.fromarray(decode_rgb(content))
    if min(image.size) <= short_side:
        return None
    scale = short_side / min(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    if max(width, height) > _LONGEST_JPEG:
        raise BrokenImageError(f"{width} x {height} pixels, after resizing, are too long for a JPEG")
    resized = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    file = io.BytesIO()
    resized.save(file, "JPEG", quality=jpeg_quality)
    return file.getvalue(), width, height
