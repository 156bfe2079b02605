"""Stuff: sky, grass, road ... as simple patterns in a few strokes, from integers of a seeded generator."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from zlib import crc32

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]
Pattern = Callable[[ImageDraw.ImageDraw, Colour, Box, np.random.Generator], None]

_BASE: dict[str, tuple[Colour, ...]] = {
    "sky": ((135, 190, 235), (165, 205, 240), (110, 170, 225)),
    "wall": ((225, 205, 175), (200, 215, 205), (220, 190, 190), (205, 205, 220)),
    "mountain": ((120, 110, 105), (105, 115, 125), (135, 120, 100)),
    "grass": ((95, 165, 70), (115, 175, 80), (80, 150, 75)),
    "water": ((60, 120, 190), (70, 140, 185), (50, 105, 170)),
    "road": ((110, 110, 115), (95, 95, 100), (125, 122, 120)),
    "snow": ((240, 243, 248), (230, 236, 245)),
    "sand": ((230, 205, 140), (222, 195, 130)),
    "floor": ((170, 120, 75), (150, 105, 70), (185, 140, 100)),
    "ground": ((140, 105, 70), (125, 95, 65)),
}


def paint(image: Image.Image, name: str, box: Box, rng: np.random.Generator) -> None:
    """Fill `box` (left, top, right, bottom; the last two exclusive) with the texture of a concept."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    side = 256 * (1 + (max(width, height) + 63) // 256)  # steps, so that few sheets are drawn
    sheet = _sheet(name, int(rng.integers(len(_BASE[name]))), side)
    x, y = int(rng.integers(sheet.width - width)), int(rng.integers(sheet.height - height))
    image.paste(sheet.crop((x, y, x + width, y + height)), (left, top))
    if name == "road":
        _lane(ImageDraw.Draw(image), box, rng)


@cache
def _sheet(name: str, tint: int, side: int) -> Image.Image:
    """A large piece of a texture, drawn once; `paint` cuts from it."""
    base = _BASE[name][tint]
    rng = np.random.default_rng(crc32(f"{name}/{tint}".encode()))
    sheet = Image.new("RGB", (side, side), base)
    _PATTERNS[name](ImageDraw.Draw(sheet), base, (0, 0, side, side), rng)
    return sheet


def ridge(size: tuple[int, int], horizon: int, rng: np.random.Generator) -> Image.Image:
    """Mask (mode L, 255 inside) of a mountain range that stands on the horizon."""
    width, _ = size
    mask = Image.new("L", size)
    peaks: list[tuple[int, int]] = [(0, horizon)]
    x = -int(rng.integers(width // 6 + 1))
    while x < width:
        step = int(rng.integers(width // 5, width // 3 + 1))
        peaks.append((x + step // 2, max(0, horizon - int(rng.integers(horizon // 2, horizon + 1)))))
        x += step
        peaks.append((x, horizon - int(rng.integers(horizon // 4 + 1))))
    ImageDraw.Draw(mask).polygon([*peaks, (width, horizon), (0, horizon)], fill=255)
    ImageDraw.Draw(mask).rectangle((0, horizon, width, size[1]), fill=0)
    return mask


def shade(colour: Colour, by: int) -> Colour:
    """The colour, lighter (positive) or darker."""
    red, green, blue = (min(255, max(0, value + by)) for value in colour)
    return red, green, blue


def _spot(box: Box, rng: np.random.Generator) -> tuple[int, int]:
    left, top, right, bottom = box
    return int(rng.integers(left, right)), int(rng.integers(top, max(bottom, top + 1)))


def _strokes(dx: int, dy: int, by: int, density: int) -> Pattern:
    """Short strokes of one direction, one for every `density` pixels."""

    def pattern(draw: ImageDraw.ImageDraw, base: Colour, box: Box, rng: np.random.Generator) -> None:
        left, top, right, bottom = box
        for _ in range((right - left) * (bottom - top) // density):
            x, y = _spot(box, rng)
            colour = shade(base, by if rng.integers(2) else -by)
            draw.line((x, y, x + dx, min(y + dy, bottom - 1)), fill=colour)

    return pattern


def _clouds(draw: ImageDraw.ImageDraw, base: Colour, box: Box, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    for _ in range((right - left) * (bottom - top) // 5000):
        x, y = _spot(box, rng)
        for puff in range(3):
            width, height = int(rng.integers(8, 18)), int(rng.integers(4, 8))
            draw.ellipse((x + puff * 7, y, x + puff * 7 + width, y + height), fill=shade(base, 45))


def _waves(draw: ImageDraw.ImageDraw, base: Colour, box: Box, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    for y in range(top + 2, bottom, 6):
        start = left - int(rng.integers(12))
        for x in range(start, right, 12):
            draw.arc((x, y, x + 12, min(y + 5, bottom)), 180, 360, fill=shade(base, 40))


def _lane(draw: ImageDraw.ImageDraw, box: Box, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    y = (top + bottom) // 2
    for x in range(left - int(rng.integers(16)), right, 20):
        draw.rectangle((x, y, x + 10, y + 2), fill=(235, 235, 225))


def _bricks(draw: ImageDraw.ImageDraw, base: Colour, box: Box, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    line = shade(base, -18)
    for row, y in enumerate(range(top, bottom, 7)):
        draw.line((left, y, right - 1, y), fill=line)
        for x in range(left + 7 * (row % 2), right, 14):
            draw.line((x, y, x, min(y + 7, bottom - 1)), fill=line)


def _planks(draw: ImageDraw.ImageDraw, base: Colour, box: Box, rng: np.random.Generator) -> None:
    left, top, right, bottom = box
    for y in range(top, bottom, 8):
        draw.rectangle(
            (left, y, right - 1, min(y + 7, bottom - 1)), fill=shade(base, int(rng.integers(-10, 11)))
        )
        draw.line((left, y, right - 1, y), fill=shade(base, -35))
        x = int(rng.integers(left, right))
        draw.line((x, y, x, min(y + 7, bottom - 1)), fill=shade(base, -35))


def _blotches(by: int, density: int) -> Pattern:
    """Flat ellipses, one for every `density` pixels."""

    def pattern(draw: ImageDraw.ImageDraw, base: Colour, box: Box, rng: np.random.Generator) -> None:
        left, top, right, bottom = box
        for _ in range((right - left) * (bottom - top) // density):
            x, y = _spot(box, rng)
            width, height = int(rng.integers(3, 9)), int(rng.integers(2, 4))
            colour = shade(base, by if rng.integers(2) else -by)
            draw.ellipse((x, y, x + width, min(y + height, bottom - 1)), fill=colour)

    return pattern


_PATTERNS: dict[str, Pattern] = {
    "sky": _clouds,
    "wall": _bricks,
    "mountain": _strokes(3, 5, 22, 45),
    "grass": _strokes(0, 3, 25, 22),
    "water": _waves,
    "road": _strokes(1, 0, 12, 40),
    "snow": _blotches(-14, 220),
    "sand": _strokes(0, 0, 30, 14),
    "floor": _planks,
    "ground": _blotches(18, 110),
}
