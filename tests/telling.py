"""Models of random weights that still have something to say."""

from __future__ import annotations

import torch

from regroup.model import GroupViT, GroupViTConfig, ImageConfig, StageConfig, TextConfig
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import load_protocol


def telling_model(config: GroupViTConfig, *, logit_scale: float) -> GroupViT:
    """A model of random weights whose segments and texts differ."""
    model = GroupViT(config, generator=torch.Generator().manual_seed(4)).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        model.logit_scale.fill_(logit_scale)
        # fresh weights make all texts alike, and all segments; with a batch norm that knows them they differ
        model.text.token_embedding.weight.normal_(generator=generator)
        for stage in model.image.stages[:-1]:
            stage.group_tokens.normal_(generator=generator)
            stage.grouping.assignment.query.weight.normal_(generator=generator)
            stage.grouping.assignment.key.weight.normal_(generator=generator)
        for projector in (model.image_projector, model.text_projector):
            projector.norm.momentum = 1.0
            projector.train()
        model.encode_image(torch.randn(8, 3, 48, 48, generator=generator))
        embed_prompts(model, load_protocol("ade150").class_prompts().texts)
    return model.eval()


def small_telling_model(*, image_size: int, groups: tuple[int, int]) -> GroupViT:
    """A small one, of patches of 8 pixels, with so many group tokens in its two stages."""
    config = GroupViTConfig(
        ImageConfig(
            image_size=image_size,
            patch_size=8,
            width=32,
            heads=2,
            stages=(*(StageConfig(1, count) for count in groups), StageConfig(1)),
        ),
        TextConfig(vocabulary=49408, context=16, width=32, depth=1, heads=2),
        projector_hidden=64,
        joint_width=16,
    )
    return telling_model(config, logit_scale=2.5)
