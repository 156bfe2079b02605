"""The image tower: patches to segments in stages (section 4.2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from regroup.errors import RegroupError
from regroup.model.config import ImageConfig, StageConfig
from regroup.model.encoding import FirstStage, Noise, TowerOutput
from regroup.model.grouping import GroupingBlock
from regroup.model.layers import NORM_EPS, Block, LayerNorm, TokenMixer, resize_positions


class GroupingStage(nn.Module):
    """Transformer blocks over image and group tokens, then a grouping block if the stage has group tokens."""

    def __init__(self, config: ImageConfig, stage: StageConfig, previous_tokens: int) -> None:
        """Make the layers; weights are drawn by the model."""
        super().__init__()
        width, hidden = config.width, int(config.width * config.mlp_ratio)
        self.blocks = nn.ModuleList(Block(width, config.heads, hidden) for _ in range(stage.depth))
        self.group_tokens: nn.Parameter | None = None
        self.carry: nn.Sequential | None = None
        self.grouping: GroupingBlock | None = None
        if stage.group_tokens:
            self.group_tokens = nn.Parameter(torch.empty(stage.group_tokens, width))
            self.grouping = GroupingBlock(width, config.heads, stage.group_tokens, hidden, config.assign_eps)
            if previous_tokens:
                mixer = TokenMixer(previous_tokens, width // 2, stage.group_tokens)
                self.carry = nn.Sequential(LayerNorm(width, eps=NORM_EPS), mixer)

    def forward(self, tokens: Tensor, previous: Tensor | None, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run the transformer blocks.

        Args:
            tokens: [B, M, width] image tokens.
            previous: [B, G', width] group tokens as the stage before left them, or None.
            keep: drop-path factors [2 * depth, B, 1, 1], or None.

        Returns:
            Image tokens [B, M, width] and group tokens [B, G, width] (G = 0 in the last stage).
        """
        length = tokens.shape[1]
        if self.group_tokens is not None:
            groups = self.group_tokens.expand(len(tokens), -1, -1)
            if self.carry is not None and previous is not None:
                groups = groups + self.carry(previous)  # eq. 20
            tokens = torch.cat([tokens, groups.to(tokens.dtype)], dim=1)
        for index, block in enumerate(self.blocks):
            tokens = block(tokens, None if keep is None else keep[2 * index : 2 * index + 2])
        return tokens[:, :length], tokens[:, length:]


class ImageTower(nn.Module):
    """Patch embedding, stages with grouping blocks, and a final norm."""

    def __init__(self, config: ImageConfig) -> None:
        """Make the layers; weights are drawn by the model."""
        super().__init__()
        self.config = config
        self.patch_embedding = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)
        self.patch_norm = LayerNorm(config.width, eps=NORM_EPS)
        self.positions = nn.Parameter(torch.empty(config.grid**2, config.width))
        previous = [0, *(stage.group_tokens for stage in config.stages)]
        self.stages = nn.ModuleList(
            GroupingStage(config, stage, tokens)
            for stage, tokens in zip(config.stages, previous, strict=False)
        )
        self.norm = LayerNorm(config.width, eps=NORM_EPS)

    def patch_grid(self, pixels: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of [B, 3, H, W]."""
        return pixels.shape[-2] // self.config.patch_size, pixels.shape[-1] // self.config.patch_size

    def draw_noise(
        self, pixels: Tensor, generator: torch.Generator | None, *, replaced: int | None = None
    ) -> Noise:
        """Draw one batch's drop path and Gumbel noise; outside compiled graphs, which generators would break.

        Args:
            pixels: the batch, for its shape and device.
            generator: source of the numbers, on any device; None takes torch's default of the batch's device.
            replaced: tokens an image that take the place of the first grouping, as in `forward`.
        """
        device = pixels.device if generator is None else generator.device
        batch = len(pixels)
        keep = None
        if self.config.drop_path:
            survive = 1 - torch.linspace(0, self.config.drop_path, self.config.depth, device=device)
            survive = survive.repeat_interleave(2).view(-1, 1, 1, 1)
            draw = torch.rand(len(survive), batch, 1, 1, device=device, generator=generator)
            keep = ((draw < survive) / survive).to(pixels.device)
        gumbel = []
        length = math.prod(self.patch_grid(pixels))
        for index, stage in enumerate(self.config.stages[:-1]):
            if index == 0 and replaced is not None:
                length = replaced
                continue
            uniform = torch.rand(batch, stage.group_tokens, length, device=device, generator=generator)
            # rand can return 0, whose noise would be infinite; the next representable step is as rare
            gumbel.append(-torch.log(-torch.log(uniform.clamp_min(1e-10))).to(pixels.device))
            length = stage.group_tokens
        return Noise(keep, tuple(gumbel))

    def embed(self, pixels: Tensor) -> Tensor:
        """Patches plus positions: [B, 3, H, W] to [B, H/P * W/P, width] (eq. 14)."""
        size = self.config.patch_size
        if pixels.ndim != 4 or pixels.shape[1] != 3 or pixels.shape[2] % size or pixels.shape[3] % size:
            raise RegroupError(
                f"pixels: shape {tuple(pixels.shape)}: expected [B, 3, H, W] with H and W multiples of the "
                f"patch size {size}; resize or pad the images"
            )
        grid: Tensor = self.patch_embedding(pixels)
        tokens: Tensor = self.patch_norm(grid.flatten(2).transpose(1, 2))
        return tokens + resize_positions(self.positions, grid.shape[2], grid.shape[3])

    def run_first_stage(self, pixels: Tensor, keep: Tensor | None = None) -> FirstStage:
        """Everything before the first grouping block: it is the same again while its weights are frozen.

        Args:
            pixels: [B, 3, H, W], normalised.
            keep: drop-path factors of the stage [2 * depth, B, 1, 1], or None.
        """
        tokens, groups = self.stages[0](self.embed(pixels), None, keep)
        return FirstStage(tokens, groups)

    def forward(
        self,
        pixels: Tensor,
        noise: Noise | None = None,
        *,
        return_attention: bool = False,
        stage_two_tokens: Tensor | None = None,
        first_stage: FirstStage | None = None,
    ) -> TowerOutput:
        """Run the tower.

        Args:
            pixels: [B, 3, H, W], normalised with ImageNet's mean and deviation; not read with `first_stage`.
            noise: from `draw_noise` in training, None for inference.
            return_attention: whether assignments and stage-1 patches are returned; they cost nothing
                otherwise.
            stage_two_tokens: [B, P, width] features that replace the first grouping's segments as input of
                the second stage (section 5.14.2); the assignments then begin with the second grouping
                block's.
            first_stage: what `run_first_stage` made of the pixels, where it is already known.
        """
        tokens, groups = pixels, None
        soft: list[Tensor] = []
        hard: list[Tensor] = []
        patches = None
        gumbel = iter(noise.gumbel if noise is not None else ())
        first_block = 0
        for index, stage in enumerate(self.stages):
            assert isinstance(stage, GroupingStage)
            keep = noise.keep if noise is not None else None
            if keep is not None:
                keep = keep[2 * first_block : 2 * (first_block + len(stage.blocks))]
            first_block += len(stage.blocks)
            if index == 0:
                tokens, groups = first_stage or self.run_first_stage(pixels, keep)
            else:
                tokens, groups = stage(tokens, groups, keep)
            if index == 0 and return_attention:
                patches = tokens
            if index == 0 and stage_two_tokens is not None:
                tokens = stage_two_tokens.to(tokens.dtype)
            elif stage.grouping is not None:
                result = stage.grouping(tokens, groups, next(gumbel, None), return_attention=return_attention)
                tokens = result.segments
                if return_attention:
                    soft.append(result.soft)
                    hard.append(result.hard)
        return TowerOutput(self.norm(tokens), tuple(soft), tuple(hard), patches)
