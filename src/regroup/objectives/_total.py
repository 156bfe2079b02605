"""The weighted sum of a run's objectives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regroup.errors import RegroupError
from regroup.objectives import OBJECTIVES, Term
from regroup.objectives._inputs import ObjectiveInputs, ObjectiveResult


@dataclass(frozen=True)
class TotalLoss:
    """Weighted sum of objectives.

    Attributes:
        loss: scalar with gradient.
        metrics: every objective's own values, unweighted, as Python numbers.
    """

    loss: Float[Tensor, ""]
    metrics: Mapping[str, float]


def total_loss(terms: Sequence[Term], inputs: ObjectiveInputs) -> TotalLoss:
    """Weighted sum of the objectives of one training step.

    A NaN in the features makes the loss NaN: nothing is masked silently, the trainer must look.

    Raises:
        RegroupError: an empty list, an unknown objective or option, something that an objective needs and the
            batch lacks, or that it reads and does not declare.
    """
    if not terms:
        raise RegroupError("objectives: the list is empty, so there is nothing to minimise")
    results = [(term.weight, objective(term, inputs)) for term in terms]
    loss = torch.stack([weight * result.loss for weight, result in results]).sum()
    metrics = {key: value for _, result in results for key, value in result.metrics.items()}
    values = torch.stack(list(metrics.values())).tolist()  # one wait for the device, not one a metric
    return TotalLoss(loss, dict(zip(metrics, values, strict=True)))


def objective(term: Term, inputs: ObjectiveInputs) -> ObjectiveResult:
    """One term, unweighted; errors as for `total_loss`."""
    module = OBJECTIVES.load(term.name)
    options = OBJECTIVES.options(term.name, term.options)
    none: frozenset[Any] = frozenset()
    declared = getattr(module, "NEEDS", none), getattr(module, "HEADS", none)
    try:
        with torch.autocast(inputs.image.device.type, enabled=False):
            result = module.loss(inputs.only(*declared), options)
    except RegroupError as error:
        raise RegroupError(f"{term.name}: {error}") from None
    loss: Tensor = result.loss if isinstance(result, ObjectiveResult) else result
    more = result.metrics if isinstance(result, ObjectiveResult) else {}
    own = {term.name: loss.detach()}
    return ObjectiveResult(loss, own | {f"{term.name}.{key}": value for key, value in more.items()})
