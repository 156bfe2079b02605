"""What is trained, added or changed in a model before training: each module here is one such adaptation.

A module has its typed `Options`, and two functions:

    def attach(model: Backbone, options: Options, generator: torch.Generator) -> None
    def export(model: Backbone) -> Backbone

`attach` changes the model in place. Everything is frozen when the first one of a list begins; each thaws
what it trains and leaves the others' as it is. What it adds are modules and parameters within the part of the
model that they change: who keeps results of a frozen part (texts, first stages) asks that part whether
anything in it learns. It draws from `generator` alone, a CPU's. What draws anew in each step of training is a
`regroup.model.dropout.RowDropout`.

`export` makes the model plain again, in place: the modules and names of before, with what was learned merged
in. So checkpoints and snapshots know nothing of adaptations.

Nothing in this module imports torch before it is used: settings are read without it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regroup.errors import RegroupError, shortlist
from regroup.plugins import Room, Use

if TYPE_CHECKING:
    import torch

    from regroup.model import Backbone

ADAPTATIONS = Room("regroup.adaptation", "adaptation", ("attach", "export"))


@dataclass(frozen=True)
class Adapted:
    """What a list of adaptations has done to a model.

    Attributes:
        trained: the number of parameters that each trains, by name, in order.
        plain: the names of the model's tensors before.
    """

    trained: Mapping[str, int]
    plain: frozenset[str]

    def export(self, model: Backbone) -> Backbone:
        """Make the model plain again, in place; what was attached last is exported first."""
        for name in reversed(list(self.trained)):
            model = ADAPTATIONS.load(name).export(model)
        return model

    def exported(self, model: Backbone) -> Backbone:
        """The model as it would be after `export`: itself where nothing was added, else a copy."""
        if model.state_dict().keys() == self.plain:
            return model
        return self.export(copy.deepcopy(model))

    def learned(self, model: Backbone) -> frozenset[str]:
        """Parameters of the plain model that training may change; `model` is the adapted one."""
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        return self.plain - frozen

    def __str__(self) -> str:
        """One line for people."""
        parts = ", ".join(f"{name} {count:,}" for name, count in self.trained.items())
        return f"{sum(self.trained.values()):,} trained parameters" + (f" ({parts})" if parts else "")


def adapt(
    model: Backbone,
    adaptations: Sequence[Use],
    *,
    seed: int,
    held_statistics: bool = False,
) -> Adapted:
    """Freeze the model and apply a list of adaptations in order.

    Args:
        model: changed in place, on any device; its training mode stays.
        adaptations: what is done; an empty list leaves everything frozen.
        seed: of the run; all that is drawn follows from it and the place in the list.
        held_statistics: see `hold_batch_norm`.

    Raises:
        RegroupError: no such adaptation, one that is listed twice, a wrong option, nothing that it could
            change in this model, or two that would train the same weights.
    """
    model.requires_grad_(False)
    plain = frozenset(model.state_dict())
    trained: dict[str, int] = {}
    for place, one in enumerate(adaptations):
        if one.name in trained:
            raise RegroupError(f"adapt: {one.name}: listed twice; give it once, with all that it should do")
        options = ADAPTATIONS.options(one.name, one.options, where=f"adapt: {one.name}")
        before = _learning(model)
        ADAPTATIONS.load(one.name).attach(model, options, _generator(seed, place))
        after = _learning(model)
        _refuse_overlap(one.name, before, after, plain)
        trained[one.name] = count_trainable(model) - sum(trained.values())
    hold_batch_norm(model, held_statistics)
    return Adapted(trained, plain)


def hold_batch_norm(model: Backbone, held: bool) -> None:
    """Decide what the batch norm of projectors without anything to learn does in training.

    Held, it uses and keeps the statistics that it has. Otherwise it normalises by the batch and moves the
    running statistics, which is what `requires_grad = False` alone leaves it doing.
    """
    from regroup.model.projector import projectors

    for projector in projectors(model).values():
        projector.norm.always_eval = held and projector.frozen
    model.train(model.training)  # so that the batch norms follow


def count_trainable(model: torch.nn.Module) -> int:
    """The number of parameters that are not frozen."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _learning(model: Backbone) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in model.named_parameters()}


def _refuse_overlap(
    name: str, before: Mapping[str, bool], after: Mapping[str, bool], plain: frozenset[str]
) -> None:
    """Weights that learn in full and through an adapter are a slip: the adapter would add nothing."""
    replaced = [one for one, learns in before.items() if learns and one not in after]
    # what an earlier one put in another's place, and kept frozen
    thawed = [
        one for one, learns in after.items() if learns and before.get(one) is False and one not in plain
    ]
    if both := sorted(replaced + thawed):
        raise RegroupError(
            f"adapt: {name}: {shortlist(both)}: trained in full by one adaptation and adapted by another; "
            "choose parts and targets that have no layer in common"
        )


def _generator(seed: int, place: int) -> torch.Generator:
    import numpy as np
    import torch

    state = np.random.SeedSequence([seed, place]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
