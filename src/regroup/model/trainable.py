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
        part: one of `Part`. In a model with `stage_two` that network stays frozen, and so does the first
            grouping block, whose segments it replaces.
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
    for parameter in _parameters(model, part):
        parameter.requires_grad_(True)
    for projector in (model.image_projector, model.text_projector):
        frozen = not any(parameter.requires_grad for parameter in projector.parameters())
        projector.norm.always_eval = frozen and frozen_batch_norm == "eval"
    model.train(model.training)  # so that the batch norms follow
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_trainable(model: GroupViT, part: str) -> int:
    """Number of parameters of `part`, without freezing anything."""
    return sum(parameter.numel() for parameter in _parameters(model, part))


def _parameters(model: GroupViT, part: str) -> list[nn.Parameter]:
    """The part's parameters, but for those that take no part in the model's function or are a teacher's."""
    out: set[nn.Parameter] = set()
    if model.stage_two is not None:
        out.update(model.stage_two.parameters())
        out.update(_blocks(model)[0].parameters())  # its segments are replaced
    modules = _modules(model, part)
    return [parameter for module in modules for parameter in module.parameters() if parameter not in out]


def _blocks(model: GroupViT) -> list[nn.Module]:
    stages = [stage for stage in model.image.stages if isinstance(stage, Stage)]
    return [stage.grouping for stage in stages if stage.grouping is not None]


def _modules(model: GroupViT, part: str) -> list[nn.Module]:
    blocks = _blocks(model)
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
