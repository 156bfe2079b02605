"""One way to turn an image file's bytes into pixels, whatever the file is."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]


class BrokenImageError(Exception):
    """The bytes are no image, or are cut short; the message says which."""


def open_rgb(content: bytes) -> Image.Image:
    """Decode an image file.

    The image stands as its EXIF orientation says; grey, palette and CMYK become RGB; 16-bit grey is scaled to
    8 bits; transparency is laid on white; of an animation the first frame counts.

    Raises:
        BrokenImageError: not an image, cut short, or too large to be one.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(content))
        if image.mode in ("I;16", "I;16B", "I;16L", "I"):
            image = Image.fromarray((np.asarray(image, dtype=np.uint32) >> 8).astype(np.uint8))
        if image.mode != "RGB" and image.has_transparency_data:
            layer = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        if image.getexif().get(0x0112, 1) != 1:
            image = ImageOps.exif_transpose(image)
        return image.convert("RGB")
    except UnidentifiedImageError:
        raise BrokenImageError("not an image") from None
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise BrokenImageError(str(error)) from None


def decode_rgb(content: bytes) -> Pixels:
    """Decode an image file to uint8 [height, width, 3], see `open_rgb`.

    Raises:
        BrokenImageError: not an image, or cut short.
    """
    return np.array(open_rgb(content))


def resize_short_side(content: bytes, short_side: int, *, jpeg_quality: int) -> tuple[bytes, int, int] | None:
    """Shrink an image file so that its short side has `short_side` pixels.

    Returns:
        JPEG bytes, width and height; None for an image that is small enough as it is.

    Raises:
        BrokenImageError: not an image, or cut short.
    """
    image = open_rgb(content)
    if min(image.size) <= short_side:
        return None
    scale = short_side / min(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    file = io.BytesIO()
    resized.save(file, "JPEG", quality=jpeg_quality)
    return file.getvalue(), width, height
