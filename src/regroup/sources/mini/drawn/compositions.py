"""Pairs of captions about the pictures of drawn COCO's validation split, as SugarCrepe has them: one is true.

The scenes are drawn again, as they are for those pictures, and asked what is in them; no picture is written.
Sentences name concepts by the words of the captions' grammar. A kind of exchange has a file:

- `size`: large, big, huge against small, little, tiny, for the only one of its concept that clearly is so;
- `swap`: the sizes of two concepts, each of which is much larger or smaller than all of the other;
- `count`: one, two or three of a concept;
- `object`: a concept in the place of one that is there; the scene shows nothing like it;
- `order`: the same words in another order, in which no part of the sentence is whole. Weak: a model of the
  language alone finds it, and so it says little about what is seen.

What is true is as often the answer as what is false, in `size`, `count` and `object`: a model that likes a
word scores chance. Relations are left out: the scenes have none that must be so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import numpy as np

from regroup.sources.mini.drawn._captioned import image_record
from regroup.sources.mini.drawn.coco import FIRST_VAL
from regroup.sources.mini.files import save_json, scenes, shown
from regroup.sources.mini.grammar import IS_LARGE, IS_SMALL
from regroup.sources.mini.names import Concept, load_names, world_id
from regroup.sources.mini.scenes import Scene
from regroup.sources.settings import WorldParams

SIZES = (("large", "small"), ("big", "little"), ("huge", "tiny"))
COUNTS = {1: "a", 2: "two", 3: "three"}
MUCH = 1.5
"""Times the height of one object that another has, where `swap` calls it the larger."""
AT_MOST = 400
"""Pairs of a kind; of more, some are drawn."""
ALIKE = (
    frozenset({"bear", "teddy bear"}),
    frozenset({"plant", "tree", "flower"}),
    frozenset({"handbag", "suitcase"}),
    frozenset({"monitor", "laptop", "painting", "window"}),
    frozenset({"cup", "vase", "bottle"}),
    frozenset({"bicycle", "motorbike"}),
    frozenset({"car", "truck", "bus"}),
    frozenset({"box", "suitcase"}),
)
"""Concepts of which one could be taken for the other, in a picture or as a word."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Fact:
    """What a scene certainly shows of a concept.

    Attributes:
        concept: which.
        heights: of each, over the scene's short side. Each is told apart, and none is hidden.
    """

    concept: Concept
    heights: tuple[float, ...]

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.heights)

    @property
    def noun(self) -> tuple[str, str]:
        """Its word, singular and plural; not one that means other things too."""
        return self.concept.nouns[-1] if self.concept.nouns[0][0] == "food" else self.concept.nouns[0]


@dataclass(frozen=True)
class View:
    """A picture of the split and what is known about it.

    Attributes:
        file_name: of the picture.
        facts: what can be told of for certain, in the order of the scene's objects.
        seen: names of all concepts of which a pixel is seen.
    """

    file_name: str
    facts: tuple[Fact, ...]
    seen: frozenset[str]


@dataclass(frozen=True)
class Pair:
    """A picture's true caption and a false one."""

    file_name: str
    caption: str
    negative: str


def write(folder: Path, world: WorldParams) -> None:
    """A file for each kind of which there is a pair."""
    seen = views(world)
    for kind, make in KINDS.items():
        rng = np.random.default_rng([world.seed, crc32(f"compositions/{kind}".encode())])
        found = _some(make(seen, rng), AT_MOST, rng)
        if found:
            pairs = {
                str(k): {
                    "filename": pair.file_name,
                    "caption": pair.caption,
                    "negative_caption": pair.negative,
                }
                for k, pair in enumerate(found)
            }
            save_json(folder / f"{kind}.json", pairs)


def views(world: WorldParams) -> list[View]:
    """What the pictures of drawn COCO's validation split show."""
    drawn = scenes("coco", "val", world.coco_val, shown("coco"), world.coco_style, world)
    return [
        View(image_record(FIRST_VAL + number, scene)["file_name"], _facts(scene), _seen(scene))
        for number, scene, _ in drawn
    ]


def _facts(scene: Scene) -> tuple[Fact, ...]:
    short = min(scene.image.size)
    heights: defaultdict[Concept, dict[int, float]] = defaultdict(dict)
    for thing in scene.things:
        heights[thing.concept][thing.number] = thing.height / short
    facts = []
    for concept, some in heights.items():
        shown_of_it = scene.objects[scene.concepts == world_id(concept.name)]
        if set(np.unique(shown_of_it).tolist()) == set(some):  # else one is there of which little is seen
            facts.append(Fact(concept, tuple(some.values())))
    return tuple(facts)


def _seen(scene: Scene) -> frozenset[str]:
    ids = set(np.unique(scene.concepts).tolist())
    return frozenset(one.name for one in load_names().concepts if world_id(one.name) in ids)


def _sizes(seen: Sequence[View], rng: np.random.Generator) -> list[Pair]:
    """As many large ones as small ones, each in three pairs of words."""
    alone = [(view, fact) for view in seen for fact in view.facts if fact.count == 1]
    large = [(view, fact) for view, fact in alone if fact.heights[0] > IS_LARGE]
    small = [(view, fact) for view, fact in alone if fact.heights[0] < IS_SMALL]
    least = min(len(large), len(small))
    found = []
    for some, true in ((large, 0), (small, 1)):
        for view, fact in _some(some, least, rng):
            for words in SIZES:
                right, wrong = (_phrase(fact.noun, 1, words[k]) for k in (true, 1 - true))
                found.append(Pair(view.file_name, right, wrong))
    return found


def _swaps(seen: Sequence[View], rng: np.random.Generator) -> list[Pair]:
    found = []
    for view in seen:
        for pair in combinations(view.facts, 2):
            facts = pair if rng.integers(2) else pair[::-1]
            first, second = facts
            words = _pick(rng, SIZES)
            if min(first.heights) >= MUCH * max(second.heights):
                told = words
            elif min(second.heights) >= MUCH * max(first.heights):
                told = words[::-1]
            else:
                continue
            right, wrong = (
                " and ".join(_phrase(f.noun, f.count, w) for f, w in zip(facts, some, strict=True))
                for some in (told, told[::-1])
            )
            if all(f.count in COUNTS for f in facts):
                found.append(Pair(view.file_name, right, wrong))
    return found


def _counts(seen: Sequence[View], rng: np.random.Generator) -> list[Pair]:
    """For any two numbers, as many that are the one and not the other as the other way round."""
    of: dict[int, list[tuple[View, Fact]]] = {count: [] for count in COUNTS}
    for view in seen:
        for fact in view.facts:
            if fact.count in of:
                of[fact.count].append((view, fact))
    shuffled = {count: _some(some, len(some), rng) for count, some in of.items()}
    found = []
    for one, other in ((1, 2), (2, 3), (1, 3)):
        for _ in range(min(len(shuffled[one]), len(shuffled[other]))):
            for true, false in ((one, other), (other, one)):
                view, fact = shuffled[true].pop()
                right, wrong = (_phrase(fact.noun, count) for count in (true, false))
                found.append(Pair(view.file_name, right, wrong))
    return found


def _objects(seen: Sequence[View], rng: np.random.Generator) -> list[Pair]:
    """What is put in is drawn from what there is in all scenes, so that no word is a sign of a lie."""
    everywhere = [fact for view in seen for fact in view.facts]
    found = []
    for view in seen:
        told = _told(view, 2, rng)
        others = [fact for fact in everywhere if not _like_any(fact.concept.name, view.seen)]
        if not told or not others:
            continue
        place = int(rng.integers(len(told)))
        alike = [fact for fact in others if len(fact.noun[0].split()) == len(told[place].noun[0].split())]
        wrong = [_phrase(fact.noun, fact.count) for fact in told]
        right = " and ".join(wrong)
        wrong[place] = _phrase(_pick(rng, alike or others).noun, told[place].count)
        found.append(Pair(view.file_name, right, " and ".join(wrong)))
    return found


def _orders(seen: Sequence[View], rng: np.random.Generator) -> list[Pair]:
    found = []
    for view in seen:
        phrases = [_phrase(fact.noun, fact.count) for fact in _told(view, 3, rng)]
        if len(phrases) < 2:
            continue
        caption = "a picture of " + " and ".join(phrases)
        words = caption.split()
        for _ in range(100):
            shuffled = " ".join(words[k] for k in rng.permutation(len(words)))
            if not any(f" {whole} " in f" {shuffled} " for whole in phrases):
                found.append(Pair(view.file_name, caption, shuffled))
                break
    return found


KINDS: dict[str, Callable[[Sequence[View], np.random.Generator], list[Pair]]] = {
    "size": _sizes,
    "swap": _swaps,
    "count": _counts,
    "object": _objects,
    "order": _orders,
}


def _told(view: View, most: int, rng: np.random.Generator) -> list[Fact]:
    """Some facts of a scene, in an order of chance."""
    return _some([fact for fact in view.facts if fact.count in COUNTS], most, rng)


def _like_any(name: str, others: frozenset[str]) -> bool:
    return name in others or any(name in some and some & others for some in ALIKE)


def _phrase(noun: tuple[str, str], count: int, adjective: str = "") -> str:
    """ "a small dog", "an umbrella", "two dogs"."""
    words = " ".join(part for part in (adjective, noun[count > 1]) if part)
    if count > 1:
        return f"{COUNTS[count]} {words}"
    return ("an " if words[0] in "aeiou" else "a ") + words


def _pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    return options[int(rng.integers(len(options)))]


def _some(options: Sequence[_T], most: int, rng: np.random.Generator) -> list[_T]:
    return [options[k] for k in rng.permutation(len(options))[:most]]
