"""Parts of the model as they are: what is trained of the pretrained weights (Table 3 of the thesis)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field

from regroup.adaptation import FrozenBatchNorm, count_trainable, hold_batch_norm
from regroup.errors import RegroupError
from regroup.settings import Settings

if TYPE_CHECKING:  # settings name these parts and must not load torch
    import torch
    from torch import nn

    from regroup.model import GroupViT

Part = Literal[
    "nothing",
    "both_gbs",
    "gb2",
    "both_gbs+image_projector",
    "gb2+image_projector",
    "both_gbs+projectors",
    "gb2+projectors",
    "image_projector",
    "projectors",
    "image_tower",
    "all",
]
"""Names as in Table 3.

`both_gbs` are all grouping blocks, `gb2` the last one, both without the group tokens; `projectors` are both
projectors; `image_tower` is everything before the image projector; `all` is the whole model, scales included.
"""


class Options(Settings):
    """Which part learns.

    In a model with `stage_two` that network stays frozen, and so does the first grouping block, whose
    segments it replaces.
    """

    train: Part = Field(default="both_gbs")


def attach(model: GroupViT, options: Options, generator: torch.Generator) -> None:
    """Thaw the part; frozen parts in front of it then build no graph."""
    for parameter in _parameters(model, options.train):
        parameter.requires_grad_(True)


def export(model: GroupViT) -> GroupViT:
    """Nothing was added."""
    return model


def set_trainable(model: GroupViT, part: str, *, frozen_batch_norm: FrozenBatchNorm = "train") -> int:
    """Freeze everything but `part`, for who has no list of adaptations.

    Args:
        model: changed in place; its training mode stays.
        part: one of `Part`.
        frozen_batch_norm: see the type.

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
    hold_batch_norm(model, frozen_batch_norm)
    return count_trainable(model)


def count_part(model: GroupViT, part: str) -> int:
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
    from regroup.model.image import Stage

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
