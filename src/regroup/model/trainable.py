"""Which parts of the model are trained (Table 3 of the thesis)."""

from __future__ import annotations

from typing import get_args

from torch import nn

from regroup.errors import RegroupError
from regroup.model.groupvit import GroupViT
from regroup.model.image import Stage
from regroup.model.parts import FrozenBatchNorm, Part


def set_trainable(model: GroupViT, part: str, *, frozen_batch_norm: FrozenBatchNorm = "train") -> int:
    """Freeze everything but `part`; frozen parts in front of it then build no graph.

    Args:
        model: changed in place; its training mode stays.
        part: one of `Part`.
        frozen_batch_norm: what the batch norm of a frozen projector does in training mode. `train` normalises
            by the batch and moves the running statistics: that is what `requires_grad = False` alone leaves
            it doing, and so most plausibly what the study did. `eval` uses and keeps the pretrained
            statistics.

    Returns:
        The number of trainable parameters.

    Raises:
        RegroupError: no such part; the message lists them.
    """
    if part not in get_args(Part):
        raise RegroupError(f"trainable: no part {part!r}; there are {', '.join(get_args(Part))}")
    if frozen_batch_norm not in get_args(FrozenBatchNorm):
        raise RegroupError(f"frozen_batch_norm: {frozen_batch_norm!r} is not one of train, eval")
    model.requires_grad_(False)
    for module in _modules(model, part):
        module.requires_grad_(True)
    for projector in (model.image_projector, model.text_projector):
        frozen = not any(parameter.requires_grad for parameter in projector.parameters())
        projector.norm.always_eval = frozen and frozen_batch_norm == "eval"
    model.train(model.training)  # so that the batch norms follow
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_trainable(model: GroupViT, part: str) -> int:
    """Number of parameters of `part`, without freezing anything."""
    return sum(parameter.numel() for module in _modules(model, part) for parameter in module.parameters())


def _modules(model: GroupViT, part: str) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for stage in model.image.stages:
        assert isinstance(stage, Stage)
        if stage.grouping is not None:
            blocks.append(stage.grouping)
    modules: dict[str, list[nn.Module]] = {
        "nothing": [],
        "both_gbs": blocks,
        "gb2": blocks[-1:],
        "image_projector": [model.image_projector],
        "projectors": [model.image_projector, model.text_projector],
        "image_tower": [model.image],
        "all": [model],
    }
    return [module for name in part.split("+") for module in modules[name]]
