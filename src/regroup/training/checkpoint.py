"""The model that every variant starts from."""

from __future__ import annotations

import torch

from regroup.backbones import load_checkpoint
from regroup.errors import RegroupError
from regroup.model import Backbone, GroupViT
from regroup.model.checkpoint import with_stage_two
from regroup.model.dino import DinoKeys
from regroup.model.restage import restage, stages_for
from regroup.training.settings import CheckpointParams
from regroup.variants import Variant


def start_model(
    params: CheckpointParams,
    *,
    variant: Variant | None = None,
    image_size: int | None = None,
    dino: DinoKeys | None = None,
) -> Backbone:
    """Load or draw the model that a run starts from.

    Args:
        params: the pretrained checkpoint.
        variant: how many grouping blocks it is re-staged to (section 5.13); tensors that the pretrained model
            lacks are drawn from the variant's seed. None: as pretrained.
        image_size: pixels that its position embedding is resized to (section 5.9). None: as pretrained.
        dino: the network whose features the second stage groups, for a variant with `dino_input`.

    Raises:
        RegroupError: the checkpoint cannot be read, does not hold exactly the model's tensors, or cannot be
            re-staged.
    """
    if params.kind == "file":
        model = load_checkpoint(params.path, image_size=image_size)
    else:
        assert params.model is not None
        model = GroupViT(params.model, generator=torch.Generator().manual_seed(params.seed)).eval()
        model = model if image_size is None else model.with_image_size(image_size)
    if model.config.architecture != params.backbone:
        raise RegroupError(
            f"{params.path}: holds a `{model.config.architecture}`; say `backbone: "
            f"{model.config.architecture}` beside its path"
        )
    if variant is None:
        return model
    if not isinstance(model, GroupViT):
        if variant.regroups:
            raise RegroupError(
                f"{params.path}: a backbone `{model.config.architecture}` has no grouping blocks; drop "
                "`grouping_blocks`, `last_group_tokens` and `dino_input` of the variant"
            )
        return model
    if variant.grouping_blocks != 2 or variant.last_group_tokens is not None:
        stages = stages_for(
            model.config.image.stages, variant.grouping_blocks, last_tokens=_tokens(model, variant)
        )
        model, _ = restage(model, stages, generator=torch.Generator().manual_seed(variant.seed))
    if variant.dino_input:
        if dino is None:
            raise RegroupError("dino_input: no features were given; run the stage `dino` first")
        model = with_stage_two(model, dino)
    return model


def _tokens(model: GroupViT, variant: Variant) -> int | None:
    """The study's number of last group tokens (of 8), scaled to the model's."""
    if variant.last_group_tokens is None:
        return None
    return max(1, round(model.config.image.stages[1].group_tokens * variant.last_group_tokens / 8))
