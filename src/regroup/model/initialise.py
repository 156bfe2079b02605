"""Initial weights, from an explicit generator and in a fixed order."""

from __future__ import annotations

import torch
from torch import nn

from regroup.model.image import GroupingStage, ImageTower
from regroup.model.layers import Block
from regroup.model.text import TextTower


@torch.no_grad()
def initialise(model: nn.Module, generator: torch.Generator | None) -> None:
    """Draw all weights: ViT's for the image side, CLIP's for the text tower.

    ViT's truncated normal (0.02, cut at 2) is cut a hundred deviations out, so the plain normal stands for
    it. The first stage's group tokens start so too, those of later stages at zero, since they are added to
    what the stage before passes on (eq. 20).
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d):
            module.reset_parameters()
        elif isinstance(module, ImageTower):
            _initialise_image(module, generator)
    # after the generic pass, whose linear layers it replaces
    for module in model.modules():
        if isinstance(module, TextTower):
            initialise_text(module, generator)


def _initialise_image(tower: ImageTower, generator: torch.Generator | None) -> None:
    convolution = tower.patch_embedding
    bound = convolution.weight[0].numel() ** -0.5
    nn.init.uniform_(convolution.weight, -bound, bound, generator=generator)
    assert convolution.bias is not None
    nn.init.zeros_(convolution.bias)
    nn.init.normal_(tower.positions, std=0.02, generator=generator)
    for index, stage in enumerate(tower.stages):
        assert isinstance(stage, GroupingStage)
        if stage.group_tokens is not None:
            if index == 0:
                nn.init.normal_(stage.group_tokens, std=0.02, generator=generator)
            else:
                nn.init.zeros_(stage.group_tokens)


def initialise_text(tower: TextTower, generator: torch.Generator | None) -> None:
    """Draw the text tower's matrices as CLIP's; its norms and biases are the caller's."""
    width, depth = tower.config.width, tower.config.depth
    residual = width**-0.5 * (2 * depth) ** -0.5
    nn.init.normal_(tower.token_embedding.weight, std=0.02, generator=generator)
    nn.init.normal_(tower.positions, std=0.01, generator=generator)
    initialise_blocks(tower.blocks, width, residual, generator)
    if tower.config.compact:
        tower.token_index.zero_()


def initialise_blocks(
    blocks: nn.ModuleList, width: int, residual: float, generator: torch.Generator | None
) -> None:
    """Draw the matrices of transformer blocks as CLIP's authors did.

    Args:
        blocks: of `regroup.model.layers.Block`.
        width: channels of a token.
        residual: deviation of what is added to a block's input; smaller, the more blocks there are.
        generator: see `initialise`.
    """
    for block in blocks:
        assert isinstance(block, Block)
        nn.init.normal_(block.attention.qkv.weight, std=width**-0.5, generator=generator)
        nn.init.normal_(block.attention.out.weight, std=residual, generator=generator)
        nn.init.normal_(block.mlp.up.weight, std=(2 * width) ** -0.5, generator=generator)
        nn.init.normal_(block.mlp.down.weight, std=residual, generator=generator)
