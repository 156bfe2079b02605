"""CLIP's ViT and text tower (Radford et al. 2021), with MaskCLIP's dense readout (Zhou et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regroup.backbones.clip.config import ClipConfig, ClipImageConfig
from regroup.errors import RegroupError
from regroup.model.constants import IMAGENET_MEAN, IMAGENET_STD
from regroup.model.encoding import FirstStage, ImageEncoding, Noise, TowerOutput
from regroup.model.initialise import initialise_blocks, initialise_text
from regroup.model.interface import Backbone
from regroup.model.layers import NORM_EPS, Block, LayerNorm, resize_positions
from regroup.model.text import TextTower

MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Of red, green and blue in CLIP's training images, where white is 1."""
STD = (0.26862954, 0.26130258, 0.27577711)
"""Their standard deviations."""


class ClipImageTower(nn.Module):
    """Patches and a class token through transformer blocks."""

    def __init__(self, config: ClipImageConfig, *, quick: bool) -> None:
        """Make the layers; weights are drawn by the model."""
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv2d(
            3, config.width, config.patch_size, stride=config.patch_size, bias=False
        )
        self.class_token = nn.Parameter(torch.empty(config.width))
        self.positions = nn.Parameter(torch.empty(1 + config.grid**2, config.width))
        self.norm_first = LayerNorm(config.width, eps=NORM_EPS)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, 4 * config.width, quick=quick) for _ in range(config.depth)
        )
        self.norm = LayerNorm(config.width, eps=NORM_EPS)

    def embed(self, pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b tokens width"]:
        """The class token and the patches, with positions.

        Images of other sizes than `image_size` take the patches' position embeddings resized bicubically to
        their grid; the class token's stays.
        """
        size = self.config.patch_size
        if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[2] % size or pixels.shape[3] % size:
            raise RegroupError(
                f"pixels: shape {tuple(pixels.shape)}: expected [B, 3, H, W] with H and W multiples of the "
                f"patch size {size}; resize or pad the images"
            )
        grid: Tensor = self.patch_embedding(_renormalise(pixels))
        patches = grid.flatten(2).transpose(1, 2)
        patches = patches + resize_positions(self.positions[1:], grid.shape[2], grid.shape[3])
        first = (self.class_token + self.positions[0]).to(patches.dtype).expand(len(patches), 1, -1)
        return torch.cat([first, patches], dim=1)

    def forward(self, pixels: Float[Tensor, "b 3 h w"], *, return_attention: bool = False) -> TowerOutput:
        """Run the tower: the class token after the final norm, and the dense readout.

        The readout is that of MaskCLIP's code for ViTs: in the last block every token attends to itself
        alone, so its attention is the value projection followed by the output projection; the block's
        residual sums, its MLP, the final norm and the projection stay as they are. (The paper's formula, for
        a ResNet's attention pooling, has no residual sum because that layer has none.)
        """
        x = self.norm_first(self.embed(pixels))
        *blocks, last = (cast(Block, block) for block in self.blocks)
        for block in blocks:
            x = block(x)
        patches = x[:, 1:] + last.attention.values(last.norm1(x[:, 1:]))
        patches = patches + last.mlp(last.norm2(patches))
        segments: Tensor = self.norm(patches)
        pooled: Tensor = self.norm(last(x)[:, 0])
        return TowerOutput(segments, patches=segments if return_attention else None, pooled=pooled)


def _renormalise(pixels: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """From ImageNet's mean and deviation, which all of the project's images have, to CLIP's."""
    pairs = zip(IMAGENET_MEAN, IMAGENET_STD, MEAN, STD, strict=True)
    gains, shifts = zip(*((s / d, (m - c) / d) for m, s, c, d in pairs), strict=True)
    gain, shift = (pixels.new_tensor(values).view(3, 1, 1) for values in (gains, shifts))
    return pixels * gain + shift


class Clip(Backbone):
    """CLIP with random weights; each patch is a segment of its own."""

    grouped = False
    config: ClipConfig
    image: ClipImageTower
    image_projector: nn.Linear
    text_projector: nn.Linear

    def build(self) -> None:
        """Make both towers and both projections."""
        config, quick = self.config, self.config.activation == "quick_gelu"
        self.image = ClipImageTower(config.image, quick=quick)
        self.text = TextTower(config.text, quick=quick)
        self.image_projector = nn.Linear(config.image.width, config.joint_width, bias=False)
        self.text_projector = nn.Linear(config.text.width, config.joint_width, bias=False)

    def draw_weights(self, generator: torch.Generator | None) -> None:
        """Draw all weights but the scales."""
        _initialise(self, generator)

    def draw_noise(self, pixels: Tensor, generator: torch.Generator | None = None) -> Noise:
        """Nothing: there is no dropout and no grouping."""
        return Noise(None, ())

    def run_image_tower(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        noise: Noise | None = None,
        *,
        return_attention: bool = False,
        first_stage: FirstStage | None = None,
    ) -> TowerOutput:
        """The first half of `encode_image`; there is no noise and no first stage."""
        out: TowerOutput = self.image(pixels, return_attention=return_attention)
        return out

    def project_image(self, out: TowerOutput, *, return_segments: bool = True) -> ImageEncoding:
        """The second half: the class token is the image's feature, every patch a segment."""
        feature = self.image_projector(out.pooled)
        projected = (
            self.image_projector(out.segments)
            if return_segments
            else feature.new_empty(len(feature), 0, feature.shape[-1])
        )
        return ImageEncoding(feature, out.segments, projected, patches=out.patches, identity=True)

    def parts(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """Towers and projections; there are no grouping blocks."""
        projectors = [*self.image_projector.parameters(), *self.text_projector.parameters()]
        return {
            "nothing": [],
            "image_projector": list(self.image_projector.parameters()),
            "projectors": projectors,
            "image_tower": list(self.image.parameters()),
            "all": list(self.parameters()),
        }

    def with_image_size(self, image_size: int) -> Clip:
        """The same weights with the patches' position embedding resized to another training size."""
        try:
            config = replace(self.config, image=replace(self.config.image, image_size=image_size))
        except ValueError as error:
            raise RegroupError(f"{error}") from None
        if config == self.config:
            return self
        state = self.state_dict()
        first, rest = state["image.positions"].split([1, self.config.image.grid**2])
        grid = config.image.grid
        state["image.positions"] = torch.cat([first, resize_positions(rest, grid, grid)])
        resized = Clip(config, draw=False)
        resized.load_state_dict(state)
        return resized.train(self.training)

    def facts(self) -> list[tuple[str, str]]:
        """Its sizes in words."""
        image = self.config.image
        tower = f"{image.image_size} px, patch {image.patch_size}, width {image.width}, {image.heads} heads"
        return [
            ("image tower", f"{tower}, {image.depth} blocks"),
            ("text tower", self.config.text.described),
            ("joint space", f"{self.config.joint_width} channels"),
            ("activation", self.config.activation),
        ]


@torch.no_grad()
def _initialise(model: Clip, generator: torch.Generator | None) -> None:
    """Draw all weights as CLIP's authors did, from an explicit generator and in a fixed order."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    tower, width = model.image, model.config.image.width
    for weight in (tower.class_token, tower.positions):
        nn.init.normal_(weight, std=width**-0.5, generator=generator)
    nn.init.normal_(tower.patch_embedding.weight, std=0.02, generator=generator)
    residual = (2 * model.config.image.depth * width) ** -0.5
    initialise_blocks(tower.blocks, width, residual, generator)
    initialise_text(model.text, generator)
    for projector in (model.image_projector, model.text_projector):
        nn.init.normal_(projector.weight, std=projector.in_features**-0.5, generator=generator)
