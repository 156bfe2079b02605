"""Parts of the model as they are: what is trained of the pretrained weights (Table 3 of the thesis)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import Field

from regroup.adaptation import count_trainable, hold_batch_norm
from regroup.errors import RegroupError
from regroup.settings import Settings

if TYPE_CHECKING:  # settings name these parts and must not load torch
    import torch
    from torch import nn

    from regroup.model import Backbone

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
    "image_tower+image_projector",
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


def attach(model: Backbone, options: Options, generator: torch.Generator) -> None:
    """Thaw the part; frozen parts in front of it then build no graph."""
    for parameter in _parameters(model, options.train):
        parameter.requires_grad_(True)


def export(model: Backbone) -> Backbone:
    """Nothing was added."""
    return model


def set_trainable(model: Backbone, part: str, *, held_statistics: bool = False) -> int:
    """Freeze everything but `part`, for who has no list of adaptations.

    Args:
        model: changed in place; its training mode stays.
        part: one of `Part`.
        held_statistics: see `regroup.adaptation.hold_batch_norm`.

    Returns:
        The number of trainable parameters.

    Raises:
        RegroupError: no such part; the message lists them.
    """
    if part not in get_args(Part):
        raise RegroupError(f"trainable: no part {part!r}; there are {', '.join(get_args(Part))}")
    model.requires_grad_(False)
    for parameter in _parameters(model, part):
        parameter.requires_grad_(True)
    hold_batch_norm(model, held_statistics)
    return count_trainable(model)


def count_part(model: Backbone, part: str) -> int:
    """Number of parameters of `part`, without freezing anything."""
    return sum(parameter.numel() for parameter in _parameters(model, part))


def _parameters(model: Backbone, part: str) -> Sequence[nn.Parameter]:
    """The part's parameters.

    Raises:
        RegroupError: this backbone has no such part; the message lists those that it has.
    """
    parts = model.parts()
    for name in part.split("+"):
        if name not in parts:
            raise RegroupError(
                f"trainable: {part}: the backbone `{model.config.architecture}` has no part `{name}`; "
                f"it has {', '.join(parts)}"
            )
    return [parameter for name in part.split("+") for parameter in parts[name]]
