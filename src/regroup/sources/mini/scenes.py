"""Draw one scene: ground and backdrop, scenery, clutter, objects; with its map of concepts and of objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from regroup.sources.mini.glyphs import CLUTTER, glyph
from regroup.sources.mini.names import Concept, Names, Place, load_names, world_id
from regroup.sources.mini.textures import paint, ridge
from regroup.sources.settings import Style

NOTHING = 255  # in the map of concepts: clutter, and nothing else
MIN_VISIBLE = 24  # pixels; an object of which less is seen is neither labelled nor told of

# backdrops and grounds of a place; where several, one is drawn at random
PLACES: dict[Place, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "land": (("sky",), ("grass", "grass", "ground")),
    "street": (("sky", "wall"), ("road",)),
    "water": (("sky",), ("water",)),
    "beach": (("sky",), ("sand", "water")),
    "snow": (("sky",), ("snow",)),
    "sky": (("sky",), ("grass", "water", "snow", "sand")),
    "home": (("wall",), ("floor",)),
}
ASPECTS = ((4, 3), (3, 2), (1, 1), (3, 4))  # width : height, as photographs have


@dataclass(frozen=True)
class Thing:
    """An object in a scene: its concept, its number in `Scene.objects`, and whether it is scenery."""

    concept: Concept
    number: int
    height: int
    scenery: bool


@dataclass(frozen=True)
class Scene:
    """A drawn scene.

    Attributes:
        image: RGB.
        concepts: uint8 [H, W], world id of what is seen, `NOTHING` for clutter.
        objects: uint8 [H, W], number of the object seen (from 1), 0 elsewhere.
        things: the objects of which enough is seen, front ones last.
        stuff: stuff concepts that cover at least 4% of the image.
    """

    image: Image.Image
    concepts: NDArray[np.uint8]
    objects: NDArray[np.uint8]
    things: tuple[Thing, ...]
    stuff: tuple[Concept, ...]


class _Painter:
    """A scene in the making."""

    def __init__(self, size: tuple[int, int], style: Style, rng: np.random.Generator) -> None:
        self.size, self.style, self.rng = size, style, rng
        self.image = Image.new("RGB", size)
        self.concepts = np.full((size[1], size[0]), NOTHING, dtype=np.uint8)
        self.objects = np.zeros((size[1], size[0]), dtype=np.uint8)
        self.things: list[Thing] = []
        self.horizon = 0

    def ground(self, place: Place) -> None:
        """Backdrop above the horizon, ground below, sometimes mountains between them."""
        width, height = self.size
        backdrop, ground = (_pick(self.rng, options) for options in PLACES[place])
        low, high = (65, 85) if place == "sky" else (35, 60)
        self.horizon = height * int(self.rng.integers(low, high)) // 100
        paint(self.image, backdrop, (0, 0, width, self.horizon), self.rng)
        paint(self.image, ground, (0, self.horizon, width, height), self.rng)
        self.concepts[: self.horizon] = world_id(backdrop)
        self.concepts[self.horizon :] = world_id(ground)
        if backdrop == "sky" and self.rng.random() < 0.3:
            mask = ridge(self.size, self.horizon, self.rng)
            layer = Image.new("RGB", self.size)
            paint(layer, "mountain", (0, 0, width, self.horizon), self.rng)
            self.image.paste(layer, mask=mask)
            self.concepts[np.asarray(mask) > 0] = world_id("mountain")

    def stamp(
        self, picture: Image.Image, height: int, corner: tuple[float, float], tilt: float, mirror: bool = True
    ) -> NDArray[np.bool_]:
        """Paste a glyph, return where on the canvas it lies; `corner` is its place in the free room."""
        scale = min(
            height / picture.height, 0.95 * self.size[0] / picture.width, 0.95 * self.size[1] / picture.height
        )
        width, tall = max(4, round(picture.width * scale)), max(4, round(picture.height * scale))
        picture = picture.resize((width, tall), Image.Resampling.BILINEAR)
        if self.rng.integers(2) and mirror:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        turn = round((2 * self.rng.random() - 1) * tilt)
        picture = picture.rotate(turn, Image.Resampling.BILINEAR, expand=True)
        x = round(corner[0] * (self.size[0] - picture.width))
        y = round(corner[1] * (self.size[1] - picture.height))
        self.image.paste(picture, (x, y), mask=picture.getchannel("A"))
        mask = Image.new("L", self.size)
        mask.paste(picture.getchannel("A"), (x, y))
        return np.asarray(mask) >= 128

    def add(
        self, concept: Concept, height: int, corner: tuple[float, float], *, scenery: bool = False
    ) -> None:
        """Draw an object in front of everything so far."""
        picture = glyph(_pick(self.rng, concept.glyphs), concept.cut)
        inside = self.stamp(picture, height, corner, 0 if scenery else self.style.rotation, concept.mirror)
        thing = Thing(concept, len(self.things) + 1, height, scenery)
        self.things.append(thing)
        self.concepts[inside] = world_id(concept.name)
        self.objects[inside] = thing.number

    def clutter(self) -> None:
        """Small signs that no dataset has a name for."""
        for _ in range(int(self.rng.integers(self.style.clutter + 1))):
            height = min(self.size) * int(self.rng.integers(12, 22)) // 100
            corner = (self.rng.random(), self.rng.random())
            inside = self.stamp(glyph(_pick(self.rng, CLUTTER)), height, corner, tilt=20)
            self.concepts[inside] = NOTHING
            self.objects[inside] = 0


def draw_scene(
    style: Style, things: tuple[Concept, ...], first: Concept, short_side: int, rng: np.random.Generator
) -> Scene:
    """Draw a scene around the concept `first`, with others of `things` beside it.

    Args:
        style: how the dataset looks.
        things: concepts that the dataset may show as objects.
        first: the concept that is certainly drawn.
        short_side: of the image, in pixels.
        rng: the only source of chance.
    """
    names = load_names()
    size = _size(short_side, rng)
    painter = _Painter(size, style, rng)
    place = _place(first, style, rng)
    painter.ground(place)
    _add_scenery(painter, names, place)
    painter.clutter()
    chosen = _choose(style, things, first, place, rng)
    _add_objects(painter, chosen, place)
    return _finish(painter, names)


_T = TypeVar("_T")


def _pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    return options[int(rng.integers(len(options)))]


def _size(short_side: int, rng: np.random.Generator) -> tuple[int, int]:
    across, down = _pick(rng, ASPECTS)
    short = min(across, down)
    return short_side * across // short, short_side * down // short


def _place(concept: Concept, style: Style, rng: np.random.Generator) -> Place:
    places = tuple(PLACES)
    if rng.random() < style.out_of_place:
        return _pick(rng, places)
    return _pick(rng, tuple(place for place in places if concept.belongs(place)))


def _choose(
    style: Style, things: tuple[Concept, ...], first: Concept, place: Place, rng: np.random.Generator
) -> list[Concept]:
    """The concepts of a scene's objects, `first` among them; a concept may come twice."""
    count = int(rng.integers(style.objects[0], style.objects[1] + 1))
    chosen = [first]
    while len(chosen) < count:
        if len(chosen) == 1 and rng.random() < style.twins:
            chosen.append(first)
            continue
        at_home = rng.random() >= style.out_of_place
        options = [thing for thing in things if not at_home or thing.belongs(place)]
        weights = np.cumsum([thing.weight for thing in options])
        chosen.append(options[int(np.searchsorted(weights, rng.integers(weights[-1]), side="right"))])
    return chosen


def _add_scenery(painter: _Painter, names: Names, place: Place) -> None:
    """Trees, houses, windows ... that stand on the horizon or hang on the wall."""
    options = [concept for concept in names.scenery if concept.belongs(place)]
    if not options:
        return
    for _ in range(2):
        if painter.rng.random() >= painter.style.scenery:
            continue
        concept = _pick(painter.rng, options)
        height = min(painter.size) * int(painter.rng.integers(25, 50)) // 100
        foot = min(painter.size[1], painter.horizon + int(painter.rng.integers(height // 2)))
        room = max(1, painter.size[1] - height)
        painter.add(
            concept, height, (painter.rng.random(), min(1.0, max(0, foot - height) / room)), scenery=True
        )


def _add_objects(painter: _Painter, chosen: list[Concept], place: Place) -> None:
    """Objects side by side, each in its own column with some play, so that they hide each other little."""
    rng, style, count = painter.rng, painter.style, len(chosen)
    columns = rng.permutation(count)
    crowd = 1.0 if count == 1 else 0.85 if count == 2 else 0.7
    for column, concept in zip(columns, chosen, strict=True):
        low, high = style.size
        height = round(min(painter.size) * crowd * (low + (high - low) * rng.random()))
        middle = (int(column) + 0.5) / count
        across = middle + (rng.random() - 0.5) * (1.0 if count == 1 else 0.7 / count)
        flies = place == "sky" and concept.belongs("sky")
        down = 0.5 * rng.random() if flies else 0.4 + 0.6 * rng.random()
        painter.add(concept, height, (min(1.0, max(0.0, across)), down))


def _finish(painter: _Painter, names: Names) -> Scene:
    image = _restyle(painter.image, painter.style, painter.rng)
    visible = np.bincount(painter.objects.ravel(), minlength=len(painter.things) + 1)
    covered = np.bincount(painter.concepts.ravel(), minlength=256)
    things = tuple(thing for thing in painter.things if visible[thing.number] >= MIN_VISIBLE)
    stuff = tuple(c for c in names.stuff if covered[world_id(c.name)] >= painter.concepts.size // 25)
    return Scene(image, painter.concepts, painter.objects, things, stuff)


def _restyle(image: Image.Image, style: Style, rng: np.random.Generator) -> Image.Image:
    """Turn hues, grey and pale the colours (one affine map of RGB), and add noise."""
    angle = math.radians(style.hue + (2 * rng.random() - 1) * style.hue_jitter)
    # the matrices of the SVG filter `hueRotate`: rotation about the grey axis that keeps luma
    grey = np.tile(np.array([0.213, 0.715, 0.072]), (3, 1))
    swing = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
    turned = grey + math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * swing
    colours = grey + style.saturation * (turned - grey)
    rows = np.hstack([(1 - style.paleness) * colours, np.full((3, 1), 255 * style.paleness)])
    # rounded, so that the last bit of a cosine cannot change a pixel
    image = image.convert("RGB", tuple(float(value) for value in np.round(rows, 6).ravel()))
    pixels = np.asarray(image).astype(np.int16)
    if style.noise:
        pixels += rng.integers(-style.noise, style.noise + 1, size=pixels.shape, dtype=np.int16)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
