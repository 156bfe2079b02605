"""Entropy of patches over groups, GE (section 4.5, eq. 38 and 39): patches are to be sure of their group.

GE = 1/(BL) sum_b sum_l sum_g -A_bgl log A_bgl     with A = Attn (eq. 34)
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from regroup.objectives import Need, ObjectiveInputs
from regroup.objectives._reduce import entropy_terms, global_mean, upcast
from regroup.settings import Settings

NEEDS = frozenset({Need.ATTENTION})

Form = Literal["thesis", "published"]


class Options(Settings):
    """Which of the two forms.

    `form`: `published` applies a softmax over groups to the attention first, and takes the mean over
    groups in place of the sum.
    """

    form: Form = "thesis"


def loss(inputs: ObjectiveInputs, options: Options) -> Tensor:
    """The penalty of a batch."""
    return group_entropy(inputs.attention, form=options.form)


def group_entropy(attention: Float[Tensor, "b g l"], *, form: Form = "thesis") -> Float[Tensor, ""]:
    """Entropy of patches over groups in nats, between 0 and log G.

    Args:
        attention: a distribution over G for each patch.
        form: see `Options`.
    """
    attention = upcast(attention)
    if form == "published":
        return global_mean(entropy_terms(attention.softmax(1)).mean(1))
    return global_mean(entropy_terms(attention).sum(1))
