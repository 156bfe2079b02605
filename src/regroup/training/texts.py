"""Text features while the text tower is frozen: each text is encoded once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BLOCK = 256


class TextFeatures:
    """The text tower's output for texts that have numbers, computed at first use and kept.

    What is kept is the tower's output before the projector, so it is exact whatever the projector does (its
    batch norm may use the batch's own statistics, or it may be trained). Texts are encoded in fixed blocks of
    consecutive numbers: a feature has the same bytes whichever batch asked for it first, so a resumed run
    equals an undisturbed one.
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        tokens: Callable[[NDArray[np.int64]], Tensor],
        count: int,
        *,
        block: int = BLOCK,
    ) -> None:
        """Set up an empty cache.

        Args:
            encode: token ids [N, T] to features [N, width], without graph.
            tokens: text numbers [N] to token ids [N, T].
            count: how many texts there are; their numbers are 0 .. count - 1.
            block: texts encoded at a time.
        """
        self._encode = encode
        self._tokens = tokens
        self.count = count
        self._block = block
        self._features: Tensor | None = None
        self._known = np.zeros(-(-count // block), dtype=bool)

    @torch.no_grad()
    def __call__(self, numbers: NDArray[np.int64]) -> Tensor:
        """Features [..., width] of the texts numbered `numbers` [...]."""
        for block in np.unique(numbers // self._block):
            if not self._known[block]:
                self._fill(int(block))
        assert self._features is not None
        return self._features[torch.from_numpy(numbers).to(self._features.device)]

    def _fill(self, block: int) -> None:
        start = block * self._block
        stop = min(start + self._block, self.count)
        features = self._encode(self._tokens(np.arange(start, stop)))
        if self._features is None:
            self._features = features.new_empty(self.count, features.shape[-1])
        self._features[start:stop] = features
        self._known[block] = True


class KeptTexts:
    """The features that runs with other seeds leave to each other: their frozen text towers are the same."""

    def __init__(self) -> None:
        """Start with none."""
        self._features: TextFeatures | None = None
        self._tower: dict[str, Tensor] = {}

    def of(
        self,
        tower: nn.Module,
        encode: Callable[[Tensor], Tensor],
        tokens: Callable[[NDArray[np.int64]], Tensor],
        count: int,
    ) -> TextFeatures:
        """The features of texts by a frozen tower: those there are, if a tower of the same weights made them.

        Args:
            tower: whose parameters and buffers decide.
            encode, tokens, count: as for `TextFeatures`; the texts have to be those of the run before.
        """
        weights = tower.state_dict()
        if self._features is None or self._features.count != count or not _equal(weights, self._tower):
            self._features = TextFeatures(encode, tokens, count)
            self._tower = {name: tensor.detach().clone() for name, tensor in weights.items()}
        return self._features


def _equal(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(
        tensor.dtype == two[name].dtype
        and tensor.device == two[name].device
        and torch.equal(tensor, two[name])
        for name, tensor in one.items()
    )
