"""What a pretraining step asks the text tower: classes in prompts, nouns of captions, and words it knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from regroup.captions.prompts import TRAINING_TEMPLATES, class_prompt, prompt
from regroup.segmentation.protocols import load_protocol
from regroup.sources.mini.grammar import words
from regroup.training.web import Concept

KNOWN_PROTOCOLS = (
    *("voc", "context60", "context59", "ade150"),
    *("coco_object_stuffthingmaps", "coco_object_instances"),
)
"""Whose class names a compact text tower knows; another protocol's words need it to be pretrained anew."""


def known_texts() -> tuple[str, ...]:
    """Texts whose words a compact text tower knows: the drawn world's captions, prompts of all classes."""
    names = {name for protocol in KNOWN_PROTOCOLS for name in load_protocol(protocol).classes}
    templates = [prompt("", template) for template in range(len(TRAINING_TEMPLATES))]
    return (*words(), *(class_prompt(name) for name in sorted(names)), *templates)


@dataclass(frozen=True)
class Candidates:
    """The classes that one step asks for: concept ids, one text each, and whether they are stuff."""

    ids: tuple[int, ...]
    texts: tuple[str, ...]
    stuff: tuple[bool, ...]


def draw_candidates(concepts: Sequence[Concept], rng: np.random.Generator) -> Candidates:
    """The classes to ask for: everything, all things, or some things; what is not asked for is background."""
    things = [i for i, concept in enumerate(concepts) if not concept.stuff]
    choice = rng.random()
    if choice < 0.35:
        ids = list(range(len(concepts)))
    elif choice < 0.65:
        ids = things
    else:
        few = rng.permutation(len(things))[: int(rng.integers(len(things) // 4, len(things)))]
        ids = sorted(things[i] for i in few)
    texts = []
    for i in ids:
        texts.append(class_text(concepts[i], rng))
    return Candidates(tuple(ids), tuple(texts), tuple(concepts[i].stuff for i in ids))


def class_text(concept: Concept, rng: np.random.Generator) -> str:
    """One of the concept's names in the prompt of inference, or as often in one of training."""
    name = concept.names[int(rng.integers(len(concept.names)))]
    template = int(rng.integers(2 * len(TRAINING_TEMPLATES)))
    return prompt(name, template) if template < len(TRAINING_TEMPLATES) else class_prompt(name)


def draw_labels(
    nouns: Sequence[Sequence[str]], count: int, rng: np.random.Generator
) -> tuple[list[str], Tensor]:
    """`count` different nouns of each caption in random templates; their ids [B, count], -1 at padding."""
    numbers: dict[str, int] = {}
    texts, ids = [], torch.full((len(nouns), count), -1)
    for row, found in enumerate(nouns):
        distinct = list(dict.fromkeys(found))
        for place, index in enumerate(rng.permutation(len(distinct))[:count]):
            ids[row, place] = numbers.setdefault(distinct[index], len(numbers))
            texts.append(prompt(distinct[index], int(rng.integers(len(TRAINING_TEMPLATES)))))
        texts += [""] * (count - min(count, len(distinct)))
    return texts, ids
