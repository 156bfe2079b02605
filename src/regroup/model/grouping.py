"""The grouping block: every token joins exactly one group (section 4.2.2, eq. 17 to 19)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regroup.model.layers import MLP, NORM_EPS, CrossAttention, LayerNorm, TokenMixer


class Grouping(NamedTuple):
    """What a grouping block returns.

    Attributes:
        segments: [B, G, width] new tokens, one a group.
        soft: [B, G, M] softmax over groups without noise (eq. 17 as used for inference), or None.
        hard: [B, G, M] one-hot over groups, the assignment that was used (eq. 18), or None.
    """

    segments: Tensor
    soft: Tensor | None
    hard: Tensor | None


class _StraightThrough(torch.autograd.Function):
    """One-hot of the largest entry forwards, the identity backwards (eq. 18), without rounding or copies."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor) -> Tensor:
        return one_hot_argmax(soft)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def one_hot_argmax(scores: Tensor) -> Tensor:
    """One-hot over axis -2 at the largest entry (the first of equals); same shape and type as `scores`."""
    index = scores.argmax(dim=-2, keepdim=True)
    return torch.zeros_like(scores).scatter_(-2, index, 1.0)


def straight_through(soft: Tensor) -> Tensor:
    """Hard assignment of eq. 18: one-hot argmax over axis -2 in value, `soft` in gradient."""
    if soft.requires_grad and torch.is_grad_enabled():
        hard: Tensor = _StraightThrough.apply(soft)  # type: ignore[no-untyped-call]  # torch does not type it
        return hard
    return one_hot_argmax(soft)


class Assignment(nn.Module):
    """Assigns tokens to groups and averages the values of each group (eq. 17 to 19)."""

    def __init__(self, width: int, eps: float) -> None:
        """Make the layers; weights are drawn by the model.

        Args:
            width: channels.
            eps: added to the size of a group before dividing by it.
        """
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.scale = width**-0.5
        self.eps = eps

    def forward(
        self, groups: Tensor, tokens: Tensor, gumbel: Tensor | None, *, return_attention: bool
    ) -> Grouping:
        """Group tokens.

        Args:
            groups: [B, G, width].
            tokens: [B, M, width].
            gumbel: [B, G, M] Gumbel noise added to the logits, or None (inference).
            return_attention: whether `soft` and `hard` are wanted.
        """
        query, key, value = self.query(groups), self.key(tokens), self.value(tokens)
        # half precision flips assignments of nearly equal groups, so logits and softmax stay in float32
        with torch.autocast(query.device.type, enabled=False):
            kind = torch.promote_types(query.dtype, torch.float32)
            logits = (query.to(kind) * self.scale) @ key.to(kind).transpose(-2, -1)
            noisy = logits if gumbel is None else logits + gumbel
            hard = (
                straight_through(F.softmax(noisy, dim=-2)) if logits.requires_grad else one_hot_argmax(noisy)
            )
            soft = F.softmax(logits, dim=-2) if return_attention else None
            count = hard.sum(dim=-1, keepdim=True)
        mean = (hard.to(value.dtype) @ value) / (count + self.eps)  # counts beyond 256 need float32
        return Grouping(self.out(mean), soft, hard.detach() if return_attention else None)


class GroupingBlock(nn.Module):
    """Groups [B, M, width] image tokens into [B, G, width] segments, given G group tokens."""

    def __init__(self, width: int, heads: int, tokens: int, mlp_hidden: int, eps: float) -> None:
        """Make the layers; weights are drawn by the model.

        Args:
            width: channels.
            heads: attention heads of the cross-attention.
            tokens: number G of group tokens.
            mlp_hidden: hidden channels of the cross-attention's MLP.
            eps: see `Assignment`.
        """
        super().__init__()
        self.norm_groups = LayerNorm(width, eps=NORM_EPS)
        self.norm_tokens = LayerNorm(width, eps=NORM_EPS)
        self.mixer = TokenMixer(tokens, width // 2, tokens)
        self.norm_mixed = LayerNorm(width, eps=NORM_EPS)
        self.cross_attention = CrossAttention(width, heads)
        self.norm_cross = LayerNorm(width, eps=NORM_EPS)
        self.cross_mlp = MLP(width, mlp_hidden)
        self.norm_post = LayerNorm(width, eps=NORM_EPS)
        self.assignment = Assignment(width, eps)
        self.norm_segments = LayerNorm(width, eps=NORM_EPS)
        self.channel_mlp = MLP(width, 4 * width)

    def forward(
        self,
        tokens: Tensor,
        groups: Tensor,
        gumbel: Tensor | None = None,
        *,
        return_attention: bool = False,
    ) -> Grouping:
        """Merge the tokens that belong to the same group; arguments as for `Assignment`."""
        tokens = self.norm_tokens(tokens)
        groups = self.norm_mixed(self.mixer(self.norm_groups(groups)))
        groups = groups + self.cross_attention(groups, tokens)
        groups = self.norm_post(groups + self.cross_mlp(self.norm_cross(groups)))
        merged, soft, hard = self.assignment(groups, tokens, gumbel, return_attention=return_attention)
        segments = groups + merged
        return Grouping(segments + self.channel_mlp(self.norm_segments(segments)), soft, hard)
