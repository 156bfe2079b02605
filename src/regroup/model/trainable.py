"""Which parts of the model are trained (Table 3 of the thesis)."""

from __future__ import annotations

from typing import get_args

from torch import nn

from regroup.errors import RegroupError
from regroup.model.interface import Backbone
from regroup.model.parts import FrozenBatchNorm, Part
from regroup.model.projector import Projector


def set_trainable(model: Backbone, part: str, *, frozen_batch_norm: FrozenBatchNorm = "train") -> int:
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
        RegroupError: no such part, of this backbone or at all; the message lists them.
    """
    if part not in get_args(Part):
        raise RegroupError(f"trainable: no part {part!r}; there are {', '.join(get_args(Part))}")
    if frozen_batch_norm not in get_args(FrozenBatchNorm):
        raise RegroupError(f"frozen_batch_norm: {frozen_batch_norm!r} is not one of train, eval")
    model.requires_grad_(False)
    for parameter in _parameters(model, part):
        parameter.requires_grad_(True)
    for projector in (part for part in model.children() if isinstance(part, Projector)):
        frozen = not any(parameter.requires_grad for parameter in projector.parameters())
        projector.norm.always_eval = frozen and frozen_batch_norm == "eval"
    model.train(model.training)  # so that the batch norms follow
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def count_trainable(model: Backbone, part: str) -> int:
    """Number of parameters of `part`, without freezing anything."""
    return sum(parameter.numel() for parameter in _parameters(model, part))


def _parameters(model: Backbone, part: str) -> list[nn.Parameter]:
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
