"""The text tower: CLIP tokens to one feature a text (section 4.2.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from regroup.errors import RegroupError
from regroup.model.config import TextConfig
from regroup.model.constants import CLIP_VOCABULARY, END_OF_TEXT
from regroup.model.layers import NORM_EPS, Block, LayerNorm


class TextTower(nn.Module):
    """A causal transformer; the feature of a text is the token at end-of-text after the final norm."""

    token_index: Tensor

    def __init__(self, config: TextConfig) -> None:
        """Make the layers; weights are drawn by the model."""
        super().__init__()
        self.config = config
        # given its storage: drawing numbers on the meta device would import all of torch's compiler
        self.token_embedding = nn.Embedding.from_pretrained(
            torch.empty(config.vocabulary, config.width), freeze=False
        )
        self.positions = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, 4 * config.width, quick=True) for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.width, eps=NORM_EPS)
        if config.compact:
            self.register_buffer("token_index", torch.zeros(CLIP_VOCABULARY, dtype=torch.int16))

    def forward(self, tokens: Tensor) -> Tensor:
        """Map CLIP ids [N, T] to features [N, width].

        The end of a text is its largest id. Attention is causal, so columns after the last end may be cut
        off beforehand (`cut_tokens`) without changing the result.
        """
        ends = tokens.argmax(dim=-1)
        rows = self.token_index[tokens].long() if self.config.compact else tokens
        x = self.token_embedding(rows) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, causal=True)
        feature: Tensor = self.norm(x[torch.arange(len(x), device=x.device), ends])
        return feature


def check_tokens(tokens: Tensor, config: TextConfig) -> None:
    """Refuse token ids that the tower cannot read.

    Raises:
        RegroupError: wrong shape or type, more columns than the context, or (checked only where it needs no
            wait for a device) a row without end-of-text or with ids outside CLIP's vocabulary.
    """
    if tokens.ndim != 2 or tokens.dtype != torch.int64:
        raise RegroupError(f"tokens: expected int64 [N, T], got {tokens.dtype} {tuple(tokens.shape)}")
    if tokens.shape[1] > config.context:
        raise RegroupError(
            f"tokens: {tokens.shape[1]} columns but the text tower reads {config.context}; cut the text to "
            f"{config.context} tokens and make the last one end-of-text ({END_OF_TEXT})"
        )
    if tokens.device.type == "cpu" and len(tokens):
        largest = tokens.amax(dim=1)
        bad = (largest != END_OF_TEXT) | (tokens.amin(dim=1) < 0)
        if bool(bad.any()):
            row = int(bad.int().argmax())
            raise RegroupError(
                f"tokens: row {row}: ids must lie in 0 to {END_OF_TEXT} and hold end-of-text ({END_OF_TEXT})"
            )


def text_lengths(tokens: Tensor) -> Tensor:
    """Tokens of each row up to and including end-of-text: int64 [N]."""
    return tokens.argmax(dim=-1) + 1


def cut_tokens(tokens: Tensor) -> Tensor:
    """Drop the columns after the longest text of the batch; reads one number back from the device."""
    return tokens[:, : int(text_lengths(tokens).max())] if len(tokens) else tokens
