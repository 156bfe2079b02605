"""Dropout that several processes, chunks of a batch and a resumed run draw alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Rows:
    """Which rows of a step's global batch the tensors that pass through hold.

    Attributes:
        seed: of the step.
        count: rows of the global batch; None: no more is known than the rows at hand.
        first: the global row that is the first here.
        stream: tells those apart who know no more than the rows at hand, such as processes.
    """

    seed: int
    count: int | None = None
    first: int = 0
    stream: int = 0


class RowDropout(nn.Module):
    """Dropout whose mask follows from the step and from the rows' places in the global batch.

    `torch.nn.Dropout` draws from the global generator: a resumed run, a second forward of the same chunk and
    another number of processes would each get other masks.
    """

    def __init__(self, rate: float, number: int) -> None:
        """Make the layer.

        Args:
            rate: probability that a value becomes zero; the others are divided by one minus it.
            number: tells the layers of a model apart.
        """
        super().__init__()
        self.rate, self.number = rate, number
        self.rows: Rows | None = None
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of [B, ...] in training; the identity otherwise."""
        return x * self._mask(x) if self.training and self.rate else x

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch does not type it
    @torch.no_grad()
    def _mask(self, x: Tensor) -> Tensor:
        if self.rows is None:
            raise RuntimeError("RowDropout: trained without rows; call `place_rows` before each forward")
        key = [self.rows.seed, self.number, self.rows.stream, self.calls]
        self.calls += 1
        state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
        generator = torch.Generator(x.device).manual_seed(int(state >> np.uint64(1)))
        count = len(x) if self.rows.count is None else self.rows.count
        drawn = torch.rand((count, *x.shape[1:]), generator=generator, device=x.device)
        kept = drawn[self.rows.first : self.rows.first + len(x)] >= self.rate
        return kept.to(x.dtype) / (1 - self.rate)

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"rate={self.rate}"


def place_rows(layers: list[RowDropout], rows: Rows) -> None:
    """Tell layers which rows come next; the same rows then draw the same masks, call by call."""
    for layer in layers:
        layer.rows, layer.calls = rows, 0


def row_dropouts(*modules: nn.Module) -> list[RowDropout]:
    """Every such layer within modules."""
    return [layer for module in modules for layer in module.modules() if isinstance(layer, RowDropout)]
