"""The terms of the training loss: each module is one objective, found by its name.

A module has

    class Options(Settings): ...                  # what a variant may tell it, with ranges; none: no options
    NEEDS = frozenset({Need.LABELS})              # what it reads beyond image and caption; none: nothing
    HEADS = frozenset({"pair_scale"})             # which of `regroup.heads` it uses; none: no head
    def loss(inputs: ObjectiveInputs, options: Options) -> Tensor | ObjectiveResult: ...

`loss` gets one rank's share of a batch and gives a scalar, or an `ObjectiveResult` where it has more to log
than its own value. It runs in float32 whatever autocast says. Its mean is over the batch of all ranks
(`global_mean` in `_reduce.py`), so that several processes do what one would. What several objectives compute
lies in modules that begin with `_`. A variant names an objective, with a weight, in `variants.yaml`.

The resolved settings of a run hold a digest of its objectives and of what they import of this package: a
change here makes every run anew, one in an objective its users', and a new one nobody's. Of other packages,
an objective imports what the stage `finetune` declares.

This module is read by whoever reads `variants.yaml`, so it imports no torch: names that need it are imported
when they are first used.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import Field

from regroup.errors import RegroupError
from regroup.objectives._needs import Need
from regroup.plugins import Room, Use

if TYPE_CHECKING:
    from regroup.objectives._inputs import (
        CaptionSets,
        Labels,
        ObjectiveInputs,
        ObjectiveResult,
        TeacherOutputs,
        TokenStates,
    )
    from regroup.objectives._reduce import upcast
    from regroup.objectives._total import TotalLoss, total_loss

_HOMES = {
    "CaptionSets": "_inputs",
    "Labels": "_inputs",
    "ObjectiveInputs": "_inputs",
    "ObjectiveResult": "_inputs",
    "TeacherOutputs": "_inputs",
    "TokenStates": "_inputs",
    "TotalLoss": "_total",
    "total_loss": "_total",
    "upcast": "_reduce",
}

__all__ = [
    "OBJECTIVES",
    "CaptionSets",
    "Labels",
    "Need",
    "ObjectiveInputs",
    "ObjectiveResult",
    "TeacherOutputs",
    "Term",
    "TokenStates",
    "TotalLoss",
    "check_names",
    "needed_heads",
    "needs",
    "total_loss",
    "upcast",
]

OBJECTIVES = Room("regroup.objectives", "objective", ("loss",))


class Term(Use):
    """One term of the total loss: an objective of this room, what it is told, and its weight."""

    weight: float = Field(default=1.0, ge=0, le=1_000_000)


def check_names(terms: Iterable[Use]) -> None:
    """Refuse an objective that there is not, and one that is listed twice; imports none.

    Raises:
        RegroupError: names it.
    """
    seen: set[str] = set()
    for term in terms:
        OBJECTIVES.check(term.name)
        if term.name in seen:
            raise RegroupError(f"{term.name}: listed twice; give it once, with the sum of the weights")
        seen.add(term.name)


def needs(terms: Iterable[Use]) -> frozenset[Need]:
    """What these objectives read beyond image and caption.

    Raises:
        RegroupError: there is no such objective.
    """
    none: frozenset[Need] = frozenset()
    return none.union(*(getattr(OBJECTIVES.load(term.name), "NEEDS", none) for term in terms))


def needed_heads(terms: Iterable[Use]) -> frozenset[str]:
    """Names of the heads that these objectives use.

    Raises:
        RegroupError: there is no such objective.
    """
    none: frozenset[str] = frozenset()
    return none.union(*(getattr(OBJECTIVES.load(term.name), "HEADS", none) for term in terms))


def __getattr__(name: str) -> Any:
    """Import a name of this package from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
