"""The terms of the training loss: pure functions of tensors, and a registry of them by name."""

from regroup.objectives.inputs import ObjectiveInputs, ObjectiveResult
from regroup.objectives.registry import OBJECTIVES, Needs, TotalLoss, needs, total_loss, validate_objectives

__all__ = [
    "OBJECTIVES",
    "Needs",
    "ObjectiveInputs",
    "ObjectiveResult",
    "TotalLoss",
    "needs",
    "total_loss",
    "validate_objectives",
]
