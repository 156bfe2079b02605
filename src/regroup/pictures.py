"""The one reader of pictures and masks, for training, evaluation, `segment`, figures and the served model.

The same file has the same pixels everywhere:

- Greys, palettes and CMYK become RGB; of an animation the first frame counts.
- 16 bits become 8: a grey value v is rounded to v / 257, so that 65535 is 255; of a colour picture Pillow
  keeps the upper bytes, which are at most one level less. 32 bits have no agreed white and are refused.
- Whatever is transparent lies on white.
- A picture stands upright, as its orientation tag says. Only where pixels are compared with a mask they stay
  as they are stored (`upright=False`): masks, COCO's sizes and its annotations know no tags.

Only `FORMATS` are opened, whatever a file is called: some of Pillow's other readers start programs. What has
more than `MAX_PIXELS` is refused before it is decoded. Metadata that is damaged does not matter.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from regroup.errors import RegroupError

Pixels = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.uint8 | np.uint16]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""What names of such files end in, in lower case; asked only where a folder is searched."""

MASK_FORMATS = ("PNG", "TIFF")
"""Nothing else keeps a value of 16 bits, or any value, exactly."""

MAX_PIXELS = 50 * 2**20
"""A 50-megapixel phone's pictures fit (8192 x 6144); the largest of the public datasets have some 30 million.

A model sees a few hundred pixels a side, so more brings nothing. Segmenting takes about 30 bytes for each,
1.6 GB at this bound, and a file of 100 kB can hold a hundred million.
"""

MAX_BYTES = 8 * MAX_PIXELS + 2**20
"""No file is larger: as many pixels of 16-bit RGBA, not compressed, and room for metadata."""

BACKGROUND = (255, 255, 255)
"""What transparent pictures lie on."""

# the bound is ours; Pillow's warning of a lower one, and what it says of odd metadata, is for nobody
warnings.filterwarnings("ignore", module=r"PIL\.")

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG, _START_OF_SCAN = b"\xff\xd8", b"\xda"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")


class BrokenImageError(RegroupError):
    """A picture or mask that cannot be read.

    Attributes:
        reason: why, without the file's name.
    """

    def __init__(self, reason: str, path: Path | None = None) -> None:
        """The message begins with the path if there is one."""
        self.reason = reason
        super().__init__(reason if path is None else f"{path}: {reason}")


def read_picture(source: Path | bytes, *, upright: bool = True) -> Pixels:
    """Decode a picture to RGB, uint8 [height, width, 3]; the module says how.

    Args:
        source: a file, or the content of one.
        upright: turn it as its orientation tag says. (Pillow turns a TIFF in any case.)

    Raises:
        BrokenImageError: no such file, not one of `FORMATS`, damaged, cut short, or larger than `MAX_PIXELS`;
            names the file, if it is one.
    """
    with _named(source, "image"):
        content = _content(source)
        image = _load(content, FORMATS)
        turn = _UPRIGHT.get(_orientation(image)) if upright else None
        image = _rgb(image, content)
        return np.array(image if turn is None else image.transpose(turn))


def read_mask(path: Path) -> Ids:
    """Read a mask [height, width] of ids: palette indices or grey levels of a PNG or TIFF as stored.

    Raises:
        BrokenImageError: as `read_picture`; also for a mask that has colours or transparency instead of ids.
    """
    with _named(path, "mask"):
        content = _content(path)
        image = _load(content, MASK_FORMATS)
        if image.mode == "P":
            return np.array(image)
        if image.mode.startswith("I;16"):
            return np.array(image).astype(np.uint16)
        if image.mode == "1":
            return np.array(image).astype(np.uint8)
        if image.mode == "L":  # Pillow spreads 2 and 4 bits over 0..255
            return np.array(image) // np.uint8(255 // (2 ** _mask_depth(image, content) - 1))
        raise BrokenImageError(
            f"a mask holds ids as a palette or grey PNG or TIFF, not {image.mode} colours; where colours "
            "stand for classes, the protocol lists them under `masks.colours`"
        )


def read_colour_mask(path: Path) -> Pixels:
    """Read a mask whose colours stand for classes: RGB [height, width, 3] of a colour or palette PNG or TIFF.

    Raises:
        BrokenImageError: as `read_picture`; also for a mask that is grey, or transparent anywhere.
    """
    with _named(path, "mask"):
        image = _load(_content(path), MASK_FORMATS)
        if image.mode not in ("RGB", "RGBA", "P"):
            raise BrokenImageError(
                f"a mask of mode {image.mode} where colours are expected; where grey levels stand for "
                "classes, the protocol lists them under `masks.values`"
            )
        if image.has_transparency_data:
            image = image.convert("RGBA")
            if np.asarray(image)[..., 3].min(initial=255) < 255:
                raise BrokenImageError("a mask that is transparent in places: its colours mean nothing there")
        return np.array(image.convert("RGB"))


def picture_size(source: Path | bytes) -> tuple[int, int]:
    """Width and height of a picture as it is stored, from its header alone.

    Raises:
        BrokenImageError: as `read_picture`, except for damage further on.
    """
    with _named(source, "image"):
        return _open(_content(source), FORMATS).size


@contextmanager
def _named(source: Path | bytes, what: str) -> Iterator[None]:
    """Whatever a decoder says of bytes that are not what they should be, in one kind of error."""
    path = source if isinstance(source, Path) else None
    try:
        yield
    except BrokenImageError as error:
        raise BrokenImageError(error.reason, path) from None
    except FileNotFoundError:
        raise BrokenImageError(f"no such {what}", path) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BrokenImageError(_too_large("it has"), path) from None
    except UnidentifiedImageError:
        formats = FORMATS if what == "image" else MASK_FORMATS
        reason = f"not a readable {what} (damaged, or none of {', '.join(formats)})"
        raise BrokenImageError(reason, path) from None
    except MemoryError:
        raise BrokenImageError(f"not a readable {what} (it needs more memory than there is)", path) from None
    except Exception as error:  # decoders raise nearly anything
        text = " ".join(str(error).split()) or type(error).__name__
        raise BrokenImageError(f"not a readable {what} ({text})", path) from None


def _content(source: Path | bytes) -> bytes:
    if isinstance(source, Path):
        # a pipe or a device would be waited for, or never end
        if not source.is_file():
            if source.exists():
                raise BrokenImageError("not a file")
            raise FileNotFoundError
        size = source.stat().st_size
    else:
        size = len(source)
    if size > MAX_BYTES:
        raise BrokenImageError(
            f"{size / 1e6:.0f} MB are more than the {MAX_BYTES / 1e6:.0f} MB that are read"
        )
    if size == 0:
        raise BrokenImageError("the file is empty")
    return source.read_bytes() if isinstance(source, Path) else source


def _load(content: bytes, formats: Sequence[str]) -> Image.Image:
    """The decoded first frame; if need be without its metadata, which may be what is damaged."""
    try:
        image = _open(content, formats)
        image.load()
    except (BrokenImageError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except Exception:
        image = _open(_bare(content), formats)
        image.load()
    return image


def _open(content: bytes, formats: Sequence[str]) -> Image.Image:
    image = Image.open(io.BytesIO(content), formats=tuple(formats))
    if image.width * image.height > MAX_PIXELS:
        raise BrokenImageError(_too_large(f"{image.width} x {image.height}: it has"))
    return image


def _too_large(what: str) -> str:
    return f"{what} more than the {MAX_PIXELS / 1e6:.0f} megapixels that are read; scale it down first"


def _bare(content: bytes) -> bytes:
    """A PNG or JPEG of nothing but what its pixels need; what is cut short stays so."""
    if content.startswith(_PNG):
        return _bare_png(content)
    return _bare_jpeg(content) if content.startswith(_JPEG) else content


def _bare_png(content: bytes) -> bytes:
    parts, place = [content[:8]], 8
    while place < len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] in _PNG_PIXELS:
            parts.append(content[place:end])
        place = end
    return b"".join(parts)


def _bare_jpeg(content: bytes) -> bytes:
    parts, place = [content[:2]], 2
    while content[place : place + 1] == b"\xff" and content[place + 1 : place + 2] != _START_OF_SCAN:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        end = place + 2 + length
        # APP0 to APP15 and comments; a whole APP14 tells which colours these are
        if not (0xE0 <= marker <= 0xEF or marker == 0xFE) or (marker == 0xEE and length >= 14):
            parts.append(content[place:end])
        place = end
    return b"".join([*parts, content[place:]])


def _orientation(image: Image.Image) -> int:
    """The tag's value, or 1 where it has none or the metadata cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # foreign bytes, as above; the pixels are whole
        return 1


def _rgb(image: Image.Image, content: bytes) -> Image.Image:
    if image.mode in ("I", "F"):
        raise BrokenImageError("32-bit values have no agreed white; save it with 8 or 16 bits a channel")
    if image.format == "PNG":
        _scale_transparency(image, _depth(content))
    if image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, (*BACKGROUND, 255)), layer)
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey picture with 8 bits, each value rounded; its transparent value, if any, is white."""
    values = np.asarray(image).astype(np.uint32)
    grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = BACKGROUND[0]
    return Image.fromarray(grey)


def _mask_depth(image: Image.Image, content: bytes) -> int:
    """Bits of a grey sample."""
    if image.format == "PNG":
        return _depth(content)
    return int(image.tag_v2.get(258, (8,))[0])  # type: ignore[attr-defined]  # a TIFF has it


def _depth(png: bytes) -> int:
    """Bits of a sample, from the header, which is always the first chunk."""
    return png[24]


def _scale_transparency(image: Image.Image, depth: int) -> None:
    """Pillow scales samples of 2, 4 and 16 bits to 8, but not the one that stands for transparent."""
    transparent = image.info.get("transparency")
    if image.mode == "L" and isinstance(transparent, int) and depth < 8:
        image.info["transparency"] = transparent * (255 // (2**depth - 1))
    elif image.mode == "RGB" and isinstance(transparent, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
