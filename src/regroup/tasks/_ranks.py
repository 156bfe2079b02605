"""Recall of retrieval: which queries belong to which candidates, and the place of the best of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

TIE = 1e-6
"""Cosines this close count as equal: the same text or picture may differ by so much in another batch."""


@dataclass(frozen=True)
class Pairs:
    """Images, the distinct texts of their captions, and which belong together.

    Attributes:
        texts: distinct, in the order of their first caption.
        counts: how many captions have each text.
        of_image: for each image its texts, each once.
        of_text: for each text its images, each once.
    """

    texts: tuple[str, ...]
    counts: tuple[int, ...]
    of_image: tuple[tuple[int, ...], ...]
    of_text: tuple[tuple[int, ...], ...]


def same_text(caption: str) -> str:
    """A caption as the model tells it from others: without capitals, and with one blank between words."""
    return " ".join(caption.lower().split())


def pair(captions: Sequence[Sequence[str]]) -> Pairs:
    """Pair images with texts: captions are one text if `same_text` says so.

    Args:
        captions: of each image.
    """
    number: dict[str, int] = {}
    counts: list[int] = []
    images: list[dict[int, None]] = []
    of_image: list[dict[int, None]] = []
    for image, some in enumerate(captions):
        of_image.append({})
        for caption in some:
            text = number.setdefault(same_text(caption), len(number))
            if text == len(counts):
                counts.append(0)
                images.append({})
            counts[text] += 1
            images[text][image] = None
            of_image[image][text] = None
    return Pairs(tuple(number), tuple(counts), tuple(map(tuple, of_image)), tuple(map(tuple, images)))


def ranks(
    queries: Float[Tensor, "q c"],
    candidates: Float[Tensor, "n c"],
    positives: Sequence[Sequence[int]],
    counts: Sequence[int],
    *,
    chunk: int,
) -> Int[Tensor, " q"]:
    """Place of each query's best positive among all candidates, from 1.

    Candidates that are no positives and as similar as the best positive, or more, come before it.

    Args:
        queries: L2-normalised.
        candidates: L2-normalised.
        positives: for each query its candidates, at least one.
        counts: how often each candidate stands among the candidates.
        chunk: queries at a time; with it memory is bounded, and no rank changes.
    """
    import torch

    device = queries.device
    columns, weights = candidates.double().T, torch.tensor(counts, device=device)
    found = []
    for start in range(0, len(queries), chunk):
        similarity = queries[start : start + chunk].double() @ columns
        own = positives[start : start + chunk]
        rows = torch.tensor([row for row, some in enumerate(own) for _ in some], device=device)
        places = torch.tensor([place for some in own for place in some], device=device)
        among = torch.zeros_like(similarity, dtype=torch.bool)
        among[rows, places] = True
        best = similarity.masked_fill(~among, -math.inf).amax(dim=1, keepdim=True)
        before = (similarity >= best - TIE) & ~among
        found.append(1 + (before * weights).sum(dim=1))
    return torch.cat(found).cpu()


def chance(positives: int, candidates: int, k: int) -> float:
    """Probability that a random order has one of some positives among its first k."""
    others = candidates - positives
    return 1 - math.comb(others, k) / math.comb(candidates, k) if k <= candidates else 1.0
