"""The transformer parts that both towers are made of."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-5
"""Epsilon of every layer norm, as in the published weights."""


class LayerNorm(nn.LayerNorm):
    """Layer norm that autocast leaves in float32 on any device; by itself torch does so on GPUs alone."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of [..., C]."""
        return super().forward(x.to(torch.promote_types(x.dtype, self.weight.dtype)))


class MLP(nn.Module):
    """Two linear layers around an activation."""

    def __init__(self, width: int, hidden: int, output: int | None = None, *, quick: bool = False) -> None:
        """Make the layers; weights are drawn by the model.

        Args:
            width: input channels.
            hidden: channels in between.
            output: output channels; `width` by default.
            quick: CLIP's sigmoid approximation of GELU instead of GELU.
        """
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width if output is None else output)
        self.quick = quick

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., width] to [..., output]."""
        out: Tensor = self.down(_activate(self.up(x), quick=self.quick))
        return out


def _activate(x: Tensor, *, quick: bool) -> Tensor:
    """GELU, or CLIP's approximation of it; in place where no gradient needs `x`, which saves the pages."""
    if x.requires_grad:
        return x * torch.sigmoid(1.702 * x) if quick else F.gelu(x)
    if quick:
        return x.mul_((1.702 * x).sigmoid_())
    activated: Tensor = torch.ops.aten.gelu_(x)
    return activated


class TokenMixer(nn.Module):
    """An MLP over the token axis (the mixer of eq. 20): [B, tokens, C] to [B, output, C]."""

    def __init__(self, tokens: int, hidden: int, output: int) -> None:
        """Make the layers; weights are drawn by the model."""
        super().__init__()
        self.mlp = MLP(tokens, hidden, output)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of each channel."""
        out: Tensor = self.mlp(x.transpose(1, 2))
        return out.transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, *, causal: bool = False) -> Tensor:
    """Multi-head scaled-dot-product attention of [B, N, C] queries over [B, M, C] keys and values."""
    batch, length, width = query.shape

    def split(x: Tensor) -> Tensor:
        return x.view(batch, -1, heads, width // heads).transpose(1, 2)

    out = F.scaled_dot_product_attention(split(query), split(key), split(value), is_causal=causal)
    return out.transpose(1, 2).reshape(batch, length, width)


class SelfAttention(nn.Module):
    """Multi-head self-attention; query, key and value come from one matrix."""

    def __init__(self, width: int, heads: int) -> None:
        """Make the layers; weights are drawn by the model."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, *, causal: bool = False) -> Tensor:
        """Map [B, N, width] to the same shape."""
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        out: Tensor = self.out(attend(query, key, value, self.heads, causal=causal))
        return out

    def values(self, x: Tensor) -> Tensor:
        """What the layer gives where each token attends to itself alone: [B, N, width] to the same shape."""
        width = x.shape[-1]
        if type(self.qkv) is nn.Linear:
            value = F.linear(x, self.qkv.weight[2 * width :], self.qkv.bias[2 * width :])
        else:  # an adapter stands in the layer's place: only the whole of it knows what it adds
            value = self.qkv(x)[..., 2 * width :]
        out: Tensor = self.out(value)
        return out


class CrossAttention(nn.Module):
    """Multi-head attention of groups over image tokens."""

    def __init__(self, width: int, heads: int) -> None:
        """Make the layers; weights are drawn by the model."""
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, groups: Tensor, tokens: Tensor) -> Tensor:
        """Map [B, G, width] groups and [B, M, width] tokens to [B, G, width]."""
        mixed = attend(self.query(groups), self.key(tokens), self.value(tokens), self.heads)
        out: Tensor = self.out(mixed)
        return out


class Block(nn.Module):
    """A pre-norm transformer block: attention and MLP, each with a residual (eq. 16)."""

    def __init__(
        self, width: int, heads: int, hidden: int, *, quick: bool = False, eps: float = NORM_EPS
    ) -> None:
        """Make the layers; weights are drawn by the model."""
        super().__init__()
        self.norm1 = LayerNorm(width, eps=eps)
        self.attention = SelfAttention(width, heads)
        self.norm2 = LayerNorm(width, eps=eps)
        self.mlp = MLP(width, hidden, quick=quick)

    def forward(self, x: Tensor, keep: Tensor | None = None, *, causal: bool = False) -> Tensor:
        """Map [B, N, width] to the same shape.

        Args:
            x: tokens.
            keep: drop-path factors [2, B, 1, 1] of the two residual branches: 0 for a dropped sample, else
                one over the rate of those kept; None keeps all.
            causal: whether a token sees only those before it.
        """
        x = _add(x, self.attention(self.norm1(x), causal=causal), None if keep is None else keep[0])
        return _add(x, self.mlp(self.norm2(x)), None if keep is None else keep[1])


def _add(x: Tensor, branch: Tensor, keep: Tensor | None) -> Tensor:
    return x + branch if keep is None else torch.addcmul(x, branch, keep)


def resize_positions(positions: Tensor, height: int, width: int) -> Tensor:
    """Bicubic resize of a square position embedding [L, C] to a grid [height * width, C] (section 5.9)."""
    side = round(len(positions) ** 0.5)
    if side == height and side == width:
        return positions
    square = positions.T.reshape(1, -1, side, side).float()
    resized = F.interpolate(square, (height, width), mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].T.to(positions.dtype)
