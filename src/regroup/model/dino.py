"""Self-supervised patch features: the keys of one block of DINO's ViT (section 5.14).

They are called as `features(pixels, grid)`: [B, 3, H, W] normalised as for the image tower, and the image
tower's patch grid (rows, columns), to [B, rows * columns, D] without gradient. D is `features.width`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from regroup.errors import RegroupError, shortlist
from regroup.io import read_json, write_bytes, write_json
from regroup.model.config import DinoConfig
from regroup.model.layers import Block, LayerNorm, resize_positions
from regroup.model.weights import CONFIG, WEIGHTS, Names, State, read_weights, require_finite

HEAD_CHANNELS = 64
"""Channels of an attention head in DINO's weights; tensors do not show it."""
LAYER = 9
"""Block whose keys are read, counted from 0; section 5.14 names it the best for coherent concepts."""
DINO_EPS = 1e-6
"""Epsilon of DINO's layer norms."""

_OURS = Names(
    "class_token", frozenset({"patch_embedding", "class_token", "positions", "blocks", "norm", "key"})
)
_THEIRS = Names(
    "patch_embed.proj.weight",
    frozenset({"patch_embed", "cls_token", "pos_embed", "blocks", "norm", "head", "fc_norm", "mask_token"}),
    averages_first=True,  # the network that DINO's authors evaluate is the teacher
)

_PUBLISHED = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}


class DinoKeys(nn.Module):
    """Keys of one attention layer of a ViT, all heads side by side, without the class token; frozen."""

    def __init__(self, config: DinoConfig) -> None:
        """Make the layers; weights are filled by the caller."""
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embedding = nn.Conv2d(3, width, config.patch_size, stride=config.patch_size)
        self.class_token = nn.Parameter(torch.empty(1, width))
        self.positions = nn.Parameter(torch.empty(1 + config.grid**2, width))
        self.blocks = nn.ModuleList(
            Block(width, config.heads, config.hidden, eps=DINO_EPS) for _ in range(config.layer)
        )
        self.norm = LayerNorm(width, eps=DINO_EPS)
        self.key = nn.Linear(width, width)
        self.requires_grad_(False)

    @property
    def width(self) -> int:
        """Channels D of a feature."""
        return self.config.width

    def tokens(self, pixels: Tensor) -> Tensor:
        """Class and patch tokens in front of the block whose keys are read: [B, 1 + h * w, D].

        Raises:
            RegroupError: the patch size does not divide the images.
        """
        size = self.config.patch_size
        if pixels.ndim != 4 or pixels.shape[-2] % size or pixels.shape[-1] % size:
            raise RegroupError(
                f"dino: patches of {size} do not divide pixels of shape {tuple(pixels.shape)}; "
                "resize or pad the images"
            )
        grid: Tensor = self.patch_embedding(pixels)
        places = resize_positions(self.positions[1:], grid.shape[2], grid.shape[3])
        patches = grid.flatten(2).transpose(1, 2) + places
        first = (self.class_token + self.positions[:1]).expand(len(pixels), 1, -1)
        x = torch.cat([first.to(patches.dtype), patches], dim=1)
        for block in self.blocks:
            x = block(x)
        return x

    @torch.no_grad()
    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Features of the patches of `grid`; a finer grid of the network's own is averaged down.

        Raises:
            RegroupError: the patch size does not divide the images.
        """
        keys: Tensor = self.key(self.norm(self.tokens(pixels)[:, 1:]))
        size = self.config.patch_size
        own = (pixels.shape[-2] // size, pixels.shape[-1] // size)
        if own == grid:
            return keys
        square = keys.transpose(1, 2).reshape(len(keys), -1, *own)
        return F.adaptive_avg_pool2d(square, grid).flatten(2).transpose(1, 2)


def save_features(features: DinoKeys, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` to `folder`; the same weights give the same bytes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in features.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(state, metadata={"format": "pt"}))
    write_json(folder / CONFIG, features.config.to_dict())


def load_features(folder: Path) -> DinoKeys:
    """Load what `save_features` wrote, strictly, on the CPU in float32.

    Raises:
        RegroupError: a file is missing or is not ours, or any tensor is missing, unexpected or misshapen.
    """
    state = read_weights(folder, _OURS, otherwise="not the features of a ViT").state
    config = DinoConfig.from_dict(read_json(folder / CONFIG), source=str(folder / CONFIG))
    return _filled(config, state, source=str(folder))


def features_width(folder: Path) -> int:
    """Channels D of the features in `folder`, without reading their weights."""
    return DinoConfig.from_dict(read_json(folder / CONFIG), source=str(folder / CONFIG)).width


def load_dino(file: Path, *, layer: int = LAYER) -> DinoKeys:
    """Load DINO's published ViT weights, such as `dino_deitsmall16_pretrain.pth`.

    Patch size, width, depth and grid follow from the tensors; heads have 64 channels. Only the blocks before
    `layer` are kept, and of that block the first norm and the rows of its keys.

    Raises:
        RegroupError: the file is no DINO ViT, or it has fewer blocks.
    """
    read = read_weights(file, _THEIRS, otherwise="not a DINO ViT")
    published = read.state
    if read.note:
        print(f"{file}: {read.note}", file=sys.stderr)

    def tensor(name: str) -> Tensor:
        if name not in published:
            raise RegroupError(f"{file}: not a DINO ViT: {name} is missing")
        return published[name]

    projection, positions = tensor("patch_embed.proj.weight"), tensor("pos_embed")
    depth = len({match[1] for name in published if (match := re.match(r"blocks\.(\d+)\.", name))})
    if not 0 < layer < depth:
        raise RegroupError(f"{file}: has blocks 0 to {depth - 1}; features of block {layer} do not exist")
    try:
        width, _, patch_size, _ = projection.shape
        state = {
            "patch_embedding.weight": projection,
            "patch_embedding.bias": tensor("patch_embed.proj.bias"),
            "class_token": tensor("cls_token")[0],
            "positions": positions[0],
        }
        for leaf in ("weight", "bias"):
            for block in range(layer):
                for ours, theirs in _PUBLISHED.items():
                    state[f"blocks.{block}.{ours}.{leaf}"] = tensor(f"blocks.{block}.{theirs}.{leaf}")
            state[f"norm.{leaf}"] = tensor(f"blocks.{layer}.norm1.{leaf}")
            state[f"key.{leaf}"] = tensor(f"blocks.{layer}.attn.qkv.{leaf}").chunk(3)[1]
        config = DinoConfig(
            image_size=round((positions.shape[1] - 1) ** 0.5) * patch_size,
            patch_size=patch_size,
            width=width,
            heads=max(1, width // HEAD_CHANNELS),
            hidden=len(state["blocks.0.mlp.up.bias"]),
            layer=layer,
        )
    except (ValueError, IndexError, TypeError) as error:
        raise RegroupError(f"{file}: no DINO ViT follows from its tensors: {error}") from None
    return _filled(config, state, source=str(file))


def _filled(config: DinoConfig, state: State, *, source: str) -> DinoKeys:
    with torch.device("meta"):
        features = DinoKeys(config)
    shapes = {name: list(tensor.shape) for name, tensor in features.state_dict().items()}
    given = {name: list(tensor.shape) for name, tensor in state.items()}
    differing = sorted(name for name in shapes.keys() | given.keys() if shapes.get(name) != given.get(name))
    if differing:
        raise RegroupError(f"{source}: does not fit a ViT: {shortlist(differing)}")
    state = {name: tensor.float() for name, tensor in state.items()}
    require_finite(state, source)
    features.to_empty(device="cpu")
    features.load_state_dict(state)
    return features.eval()
