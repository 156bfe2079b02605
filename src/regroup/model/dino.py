"""Self-supervised patch features: DINO's keys, and a seeded stand-in where its weights are out of reach.

Both are called as `features(pixels, grid)`: [B, 3, H, W] normalised as for the image tower, and the image
tower's patch grid (rows, columns), to [B, rows * columns, D] without gradient.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regroup.errors import RegroupError
from regroup.model.checkpoint import read_tensors

HEAD_CHANNELS = 64
LAYER = 9
"""Block whose keys are taken, counted from 0; section 5.14 names it the best for coherent concepts."""

_BLOCK_NAMES = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.o_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


class DinoKeys(nn.Module):
    """Keys of one attention layer of DINO's ViT, all heads side by side, without the class token."""

    def __init__(self, vit: nn.Module, key: nn.Linear, patch_size: int) -> None:
        """Make the layers; weights are drawn by the model."""
        super().__init__()
        self.vit = vit
        self.key = key
        self.patch_size = patch_size
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features of the patches of `grid`; a finer grid of DINO's own is averaged down.

        Raises:
            RegroupError: DINO's patch size does not divide the images.
        """
        height, width = pixels.shape[-2:]
        if height % self.patch_size or width % self.patch_size:
            raise RegroupError(
                f"dino: patches of {self.patch_size} do not divide images of {height} x {width}"
            )
        hidden = self.vit(pixels, interpolate_pos_encoding=True).last_hidden_state
        keys = self.key(hidden[:, 1:])
        own = (height // self.patch_size, width // self.patch_size)
        return to_grid(keys.transpose(1, 2).unflatten(2, own), grid)


class SeededFeatures(nn.Module):
    """Fixed random convolutions: an untrained stand-in for DINO on drawn images, and nothing more.

    Two layers of random filters respond to colour and texture; their responses are averaged over each patch
    and centred over the image, so that cosine similarities take both signs.
    """

    def __init__(self, width: int, seed: int = 0) -> None:
        """Make the layers; weights are drawn by the model.

        Args:
            width: channels D of a feature.
            seed: of the filters.
        """
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("first", torch.randn(32, 3, 5, 5, generator=generator) / 75**0.5)
        self.register_buffer("second", torch.randn(width, 32, 3, 3, generator=generator) / 288**0.5)

    first: Tensor
    second: Tensor

    @torch.no_grad()
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features of the patches of `grid`."""
        x = F.relu(F.conv2d(pixels, self.first, stride=2, padding=2))
        features = to_grid(F.relu(F.conv2d(x, self.second, padding=1)), grid)
        return features - features.mean(dim=1, keepdim=True)


def to_grid(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """Average [B, D, h, w] over the cells of `grid`: [B, rows * columns, D]."""
    if features.shape[-2:] != grid:
        features = F.adaptive_avg_pool2d(features, grid)
    return features.flatten(2).transpose(1, 2)


def load_dino(file: Path, *, layer: int = LAYER) -> DinoKeys:
    """Load DINO's published ViT weights, such as `dino_deitsmall16_pretrain.pth`.

    Patch size, width, depth and grid follow from the tensors; heads have 64 channels. Only the blocks before
    `layer` are kept, with that block's first norm in the place of the final one.

    Raises:
        RegroupError: `transformers` is not installed, the file is no DINO ViT, or it has fewer blocks.
    """
    try:
        from transformers import ViTConfig, ViTModel
    except ImportError:
        raise RegroupError(
            "dino: needs the package `transformers`; install it, or leave the DINO objectives out"
        ) from None
    state = {name.removeprefix("backbone."): tensor for name, tensor in read_tensors(file).items()}
    projection, positions = state.get("patch_embed.proj.weight"), state.get("pos_embed")
    if projection is None or positions is None:
        raise RegroupError(f"{file}: not a DINO ViT: patch_embed.proj.weight or pos_embed is missing")
    depth = len({match[1] for name in state if (match := re.match(r"blocks\.(\d+)\.", name))})
    if not 0 < layer < depth:
        raise RegroupError(f"{file}: has blocks 0 to {depth - 1}; features of block {layer} do not exist")
    width, _, patch_size, _ = projection.shape
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layer,
        num_attention_heads=max(1, width // HEAD_CHANNELS),
        intermediate_size=_tensor(state, "blocks.0.mlp.fc1.weight", file).shape[0],
        layer_norm_eps=1e-6,
        patch_size=patch_size,
        image_size=round((positions.shape[1] - 1) ** 0.5) * patch_size,
    )
    vit = ViTModel(config, add_pooling_layer=False)
    key = nn.Linear(width, width)
    _fill(vit, key, state, layer, file)
    return DinoKeys(vit, key, patch_size)


def _fill(vit: Any, key: nn.Linear, state: Mapping[str, Tensor], layer: int, file: Path) -> None:
    wanted = {
        "embeddings.cls_token": _tensor(state, "cls_token", file),
        "embeddings.position_embeddings": _tensor(state, "pos_embed", file),
    }
    for leaf in ("weight", "bias"):
        wanted[f"embeddings.patch_embeddings.projection.{leaf}"] = _tensor(
            state, f"patch_embed.proj.{leaf}", file
        )
        wanted[f"layernorm.{leaf}"] = _tensor(state, f"blocks.{layer}.norm1.{leaf}", file)
        for block in range(layer):
            for theirs, ours in _BLOCK_NAMES.items():
                wanted[f"layers.{block}.{ours}.{leaf}"] = _tensor(
                    state, f"blocks.{block}.{theirs}.{leaf}", file
                )
            for part, value in zip(
                "qkv", _tensor(state, f"blocks.{block}.attn.qkv.{leaf}", file).chunk(3), strict=True
            ):
                wanted[f"layers.{block}.attention.{part}_proj.{leaf}"] = value
    try:
        vit.load_state_dict(wanted)
        key.load_state_dict(
            {
                leaf: _tensor(state, f"blocks.{layer}.attn.qkv.{leaf}", file).chunk(3)[1]
                for leaf in ("weight", "bias")
            }
        )
    except RuntimeError as error:
        raise RegroupError(f"{file}: does not fit a ViT: {error}") from None


def _tensor(state: Mapping[str, Tensor], name: str, file: Path) -> Tensor:
    if name not in state:
        raise RegroupError(f"{file}: not a DINO ViT: {name} is missing")
    return state[name]
