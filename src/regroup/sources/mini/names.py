"""The concepts that the drawn world knows, read from names.yaml."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict
from ruamel.yaml import YAML

from regroup.errors import RegroupError

Vocabulary = Literal["coco", "coco_stuff", "voc", "context", "ade"]
Place = Literal["land", "street", "water", "beach", "snow", "sky", "home"]


class Concept(BaseModel):
    """One thing, piece of scenery or stuff; see the head of names.yaml for the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    nouns: tuple[tuple[str, str], ...]
    glyphs: tuple[str, ...] = ()
    cut: float = 0.0
    mirror: bool = True
    places: tuple[Place | Literal["any"], ...] = ()
    weight: int = 1
    coco: tuple[int, str] | None = None
    coco_stuff: tuple[int, str] | None = None
    voc: tuple[int, str] | None = None
    context: tuple[int, str] | None = None
    ade: tuple[int, str] | None = None

    def label(self, dataset: str) -> tuple[int, str] | None:
        """Id and name in a dataset, None where the dataset has no such class."""
        found: tuple[int, str] | None = getattr(self, dataset)
        return found

    def belongs(self, place: Place) -> bool:
        """Whether the concept is usually seen in `place`."""
        return "any" in self.places or place in self.places


class Names(BaseModel):
    """The whole of names.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    things: tuple[Concept, ...]
    scenery: tuple[Concept, ...]
    stuff: tuple[Concept, ...]
    coco_categories: dict[int, tuple[str, str]]

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """Every concept; a concept's place in this order is its id in the world's own maps."""
        return (*self.things, *self.scenery, *self.stuff)


@cache
def load_names() -> Names:
    """names.yaml, read once."""
    text = files("regroup.sources.mini").joinpath("names.yaml").read_text(encoding="utf-8")
    return Names.model_validate(YAML(typ="safe", pure=True).load(text))


@cache
def world_id(name: str) -> int:
    """A concept's id in the world's own maps."""
    return [concept.name for concept in load_names().concepts].index(name)


def drawn_names(source: str) -> list[str]:
    """Names of the classes that a drawn source shows, in the order of the dataset's ids, without background.

    They are spelled as the evaluation protocols spell them; `coco` lists things only.

    Raises:
        RegroupError: the drawn world has no class names for this source.
    """
    key = "voc" if source == "voc12" else source
    if key not in get_args(Vocabulary):
        raise RegroupError(f"the drawn world has no class names for the source {source}; give `names: all`")
    return _names_in(key)


def drawn_stuff(source: str) -> list[str]:
    """Names of the stuff and scenery that a drawn source shows apart from `drawn_names`; most have none."""
    key = f"{source}_stuff"
    return _names_in(key) if key in get_args(Vocabulary) else []


def _names_in(vocabulary: str) -> list[str]:
    labels = sorted(label for concept in load_names().concepts if (label := concept.label(vocabulary)))
    return [name for _, name in labels]
