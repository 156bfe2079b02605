"""Captions of a scene, by a small grammar: adjectives, plurals, several nouns, stuff, and some noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from regroup.sources.mini.names import Concept, load_names
from regroup.sources.mini.scenes import Scene

_T = TypeVar("_T")

IS_LARGE, IS_SMALL = 0.58, 0.36
"""Heights over the short side above and below which captions may call an object so."""

_LARGE = ("large", "big", "huge")
_SMALL = ("small", "little", "tiny")
_PLAIN = ("old", "nice", "colorful", "lone", "single", "pretty", "funny", "strange")
_TWO = ("two", "two", "a couple of", "a pair of", "some")
_MANY = ("three", "several", "a group of", "some")
_POSES = ("sitting", "standing", "placed", "shown", "resting", "seen")
_OPENINGS = ("", "", "", "", "a picture of ", "a close up of ", "a view of ", "an image of ", "there is ")
_JOINTS = ("next to", "and", "and", "with", "near", "in front of", "beside")
_GROUND = {
    "grass": ("on the {}", "in a green {}", "in the {}"),
    "water": ("in the {}", "on the {}", "near the {}"),
    "road": ("on the {}", "on the side of a {}", "in the {}"),
    "snow": ("in the {}", "on the white {}"),
    "sand": ("on the {}", "in the {}"),
    "floor": ("on the {}", "on a wooden {}"),
    "ground": ("on the {}", "on some {}"),
    "sky": ("under a blue {}", "under the {}", "with a clear {} above"),
    "wall": ("in front of a {}", "against the {}"),
    "mountain": ("with a {} in the background", "in front of a {}", "with tall {s} behind"),
}
_ALT = (
    "{}",
    "{}",
    "{} photo",
    "cute {} clip art",
    "{} stock image",
    "free {} wallpaper download",
    "my {} today",
    "{} for sale",
)


def _pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    return options[int(rng.integers(len(options)))]


def _with_article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeio" else "a ") + phrase


def _phrase(concept: Concept, count: int, adjective: str, rng: np.random.Generator) -> str:
    """ "a small dog", "two dogs", "a group of people"."""
    singular, plural = _pick(rng, concept.nouns)
    adjective = f"{adjective} " if adjective else ""
    if count == 1:
        return _with_article(adjective + singular)
    return f"{_pick(rng, _TWO if count == 2 else _MANY)} {adjective}{plural}"


def _adjective(relative_height: float, rng: np.random.Generator) -> str:
    """An adjective for every second object, about its size where that stands out."""
    if rng.random() < 0.5:
        return ""
    if relative_height > IS_LARGE and rng.random() < 0.7:
        return _pick(rng, _LARGE)
    if relative_height < IS_SMALL and rng.random() < 0.7:
        return _pick(rng, _SMALL)
    return _pick(rng, _PLAIN)


def _mentioned(scene: Scene, rng: np.random.Generator) -> list[tuple[Concept, int, float]]:
    """Concepts that a caption names, how many there are, their relative height; at least one if any."""
    short = min(scene.image.size)
    objects = Counter(thing.concept for thing in scene.things if not thing.scenery)
    scenery = Counter(thing.concept for thing in scene.things if thing.scenery)
    tallest = {thing.concept: thing.height / short for thing in scene.things}
    named = [concept for concept in objects if rng.random() < 0.75]
    if not named and objects:
        named = [_pick(rng, list(objects))]
    named += [concept for concept in scenery if rng.random() < 0.35 and concept not in named]
    order = rng.permutation(len(named))
    counts = objects + scenery
    return [(named[i], counts[named[i]], tallest[named[i]]) for i in order]


def _where(scene: Scene, rng: np.random.Generator) -> str:
    """ "on the grass", "under a blue sky"; empty where the scene has no stuff."""
    if not scene.stuff:
        return ""
    stuff = _pick(rng, scene.stuff)
    singular, plural = _pick(rng, stuff.nouns)
    return " " + _pick(rng, _GROUND[stuff.name]).format(singular, s=plural)


def caption(scene: Scene, others: Sequence[Concept], noise: float, rng: np.random.Generator) -> str:
    """One English sentence about a scene, as people who look at it would write.

    Args:
        scene: what is seen.
        others: concepts from which a wrong one is taken.
        noise: chance that the sentence names a wrong concept in the place of a right one.
        rng: the only source of chance.
    """
    named = _mentioned(scene, rng)
    if rng.random() < noise or not named:
        wrong = (_pick(rng, others), 1, 0.5)
        named = [wrong, *named[1:]]
    phrases = [_phrase(concept, count, _adjective(height, rng), rng) for concept, count, height in named[:3]]
    subject = phrases[0]
    if len(phrases) > 1:
        subject += f" {_pick(rng, _JOINTS)} {phrases[1]}"
    if len(phrases) > 2:
        subject += f" and {phrases[2]}"
    pose = f" {_pick(rng, _POSES)}" if rng.random() < 0.5 else ""
    where = _where(scene, rng) if rng.random() < 0.6 or pose else ""
    sentence = _pick(rng, _OPENINGS) + subject + (pose + where if where else "")
    return sentence[0].upper() + sentence[1:] + ("." if rng.random() < 0.8 else "")


def alt_text(scene: Scene, others: Sequence[Concept], noise: float, rng: np.random.Generator) -> str:
    """One caption as the web has them: a sentence or a few words, some about something else."""
    if rng.random() < 0.5:
        return caption(scene, others, noise, rng)
    if rng.random() < noise:
        words = [_pick(rng, _pick(rng, others).nouns)[0]]
    else:
        words = [_pick(rng, concept.nouns)[count > 1] for concept, count, _ in _mentioned(scene, rng)]
        if scene.stuff and rng.random() < 0.4:
            words.append(_pick(rng, _pick(rng, scene.stuff).nouns)[0])
    return _pick(rng, _ALT).format(" and ".join(words[:3])).strip()


def words() -> tuple[str, ...]:
    """Every text that captions are put together from, for a text tower that is to know their words."""
    ground = tuple(pattern.format("", s="") for patterns in _GROUND.values() for pattern in patterns)
    alt = tuple(pattern.format("") for pattern in _ALT)
    nouns = tuple(word for concept in load_names().concepts for pair in concept.nouns for word in pair)
    return (
        *_LARGE,
        *_SMALL,
        *_PLAIN,
        *_TWO,
        *_MANY,
        *_POSES,
        *_OPENINGS,
        *_JOINTS,
        *ground,
        *alt,
        *nouns,
        "a an.",
    )
