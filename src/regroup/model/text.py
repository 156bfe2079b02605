"""The text tower: CLIP tokens to one feature a text (section 4.2.4)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from regroup.errors import RegroupError
from regroup.model.config import TextConfig
from regroup.model.constants import CLIP_VOCABULARY, END_OF_TEXT, START_OF_TEXT
from regroup.model.layers import NORM_EPS, Block, LayerNorm


class TextTower(nn.Module):
    """A causal transformer; the feature of a text is the token at end-of-text after the final norm."""

    token_index: Tensor

    def __init__(self, config: TextConfig, *, quick: bool = True) -> None:
        """Make the layers; weights are drawn by the model.

        Args:
            config: sizes.
            quick: CLIP's sigmoid approximation of GELU instead of GELU.
        """
        super().__init__()
        self.config = config
        # given its storage: drawing numbers on the meta device would import all of torch's compiler
        self.token_embedding = nn.Embedding.from_pretrained(
            torch.empty(config.vocabulary, config.width), freeze=False
        )
        self.positions = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, 4 * config.width, quick=quick) for _ in range(config.depth)
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
        x = self._run_blocks(tokens)
        feature: Tensor = self.norm(x[torch.arange(len(x), device=x.device), ends])
        return feature

    def states(self, tokens: Tensor) -> Tensor:
        """Map CLIP ids [N, T] to the state of every token [N, T, width]; that at end-of-text is the feature.

        A state knows the tokens up to its own. What stands after end-of-text means nothing.
        """
        states: Tensor = self.norm(self._run_blocks(tokens))
        return states

    def feature_of_zeros(self) -> Tensor:
        """The feature [1, width] of a text of zero tokens, start and end among them: that at its first."""
        return self(torch.zeros(1, 1, dtype=torch.int64, device=self.positions.device))  # type: ignore[no-any-return]  # a module's call

    def _run_blocks(self, tokens: Tensor) -> Tensor:
        rows = self.token_index[tokens].long() if self.config.compact else tokens
        x: Tensor = self.token_embedding(rows) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, causal=True)
        return x


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


def encode_by_length(tower: TextTower, tokens: Tensor) -> Tensor:
    """Run the text tower on each distinct text once, short texts apart from long ones.

    Exact: a text's feature depends on nothing but its own tokens up to end-of-text. Labels repeat within a
    batch and captions are longer than labels, so this saves most of the tower's work.
    """
    if len(tokens) == 0:
        return tokens.new_zeros((0, tower.config.width), dtype=tower.positions.dtype)
    distinct, inverse = torch.unique(cut_tokens(tokens), dim=0, return_inverse=True)
    order = text_lengths(distinct).argsort(stable=True)
    # a pass of the tower has a fixed cost, on a GPU that of a few hundred texts
    smallest = 512 if tokens.is_cuda else 16
    size = min(max(smallest, -(-len(distinct) // 4)), 1024)
    parts = [tower(cut_tokens(distinct[rows])) for rows in torch.split(order, size)]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return torch.cat(parts)[place[inverse]]


def set_tokens(tower: TextTower, ids: Iterable[int]) -> None:
    """Fill the token table of a compact vocabulary; see `Backbone.set_tokens`."""
    if not tower.config.compact:
        raise RegroupError("text.vocabulary: CLIP's full vocabulary needs no token table")
    wanted = sorted({int(index) for index in ids} | {START_OF_TEXT, END_OF_TEXT})
    if wanted[0] < 0 or wanted[-1] >= CLIP_VOCABULARY:
        raise RegroupError(f"set_tokens: ids must lie in 0 to {END_OF_TEXT}")
    if len(wanted) >= tower.config.vocabulary:
        raise RegroupError(
            f"text.vocabulary: {tower.config.vocabulary} rows, but {len(wanted)} tokens and a row "
            f"for unknown ones are needed; set it to at least {len(wanted) + 1}"
        )
    index = tower.token_index
    index.zero_()
    rows = torch.arange(1, len(wanted) + 1, dtype=index.dtype, device=index.device)
    index[torch.tensor(wanted, device=index.device)] = rows
