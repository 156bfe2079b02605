"""Logistic regression on frozen features, its C chosen on validation pictures.

The search is CLIP's (Radford et al. 2021, appendix A.3): seven values from 1e-6 to 1e6, then the gap around
the best one is halved, four times for eight values a decade. Of values that do equally well the smallest, the
most regularised, is taken. The features are the model's own, not brought to unit length, as in CLIP's code,
but for one factor that all share: it makes the root mean square of what is trained on 1. A factor is one
of C, and without it the solver, whose tolerance is absolute, would not move for a model of small features.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from regroup.errors import RegroupError
from regroup.tasks._class_images import ClassImages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaxtyping import Float, Int
    from sklearn.linear_model import LogisticRegression

    from regroup.class_folders import ClassFolders

EXPONENTS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0)
"""Powers of ten that C is first taken from."""

_SMALL = 10**8
"""Multiplications; fewer are done by one thread before another has begun."""


class Probe(ClassImages):
    """How C is chosen and the regression solved."""

    halvings: int = Field(
        default=4, ge=0, le=8, description="of the gap around the best C; 4: eight values a decade"
    )
    max_iter: int = Field(default=1000, ge=1, le=1_000_000, description="steps of L-BFGS")
    normalise: bool = Field(default=False, description="features of unit length")

    def scaled(
        self, train: Float[np.ndarray, "n c"], *others: Float[np.ndarray, "_ c"]
    ) -> list[Float[np.ndarray, "_ c"]]:
        """Features to train on, and others by the same factor, as the regression takes them: float64."""
        wide = [some.astype(np.float64) for some in (train, *others)]
        if self.normalise:
            wide = [some / np.maximum(np.linalg.norm(some, axis=1, keepdims=True), 1e-12) for some in wide]
        size = float(np.sqrt(np.mean(wide[0] ** 2))) or 1.0
        return [some / size for some in wide]


@dataclass(frozen=True)
class Samples:
    """Features [n, c] with their classes [n]."""

    features: Float[np.ndarray, "n c"]
    labels: Int[np.ndarray, " n"]

    def at(self, rows: Int[np.ndarray, " m"]) -> Samples:
        """Some of them."""
        return Samples(self.features[rows], self.labels[rows])


@dataclass(frozen=True)
class Choice:
    """A value of C, and the probe that was trained with it.

    Attributes:
        c: the inverse strength of regularisation.
        accuracy: percent right on validation.
        probe: trained on what the search trained on.
        fits: how many values were tried; `unconverged` of them came to no end.
    """

    c: float
    accuracy: float
    probe: LogisticRegression
    fits: int
    unconverged: int


@contextmanager
def solving(train: Samples) -> Iterator[None]:
    """Around fits on as much as `train`: numpy's products take torch's threads, or one where they are small.

    Else they take all cores, which decide last digits, and of small products most of the time is waiting.
    """
    import torch
    from threadpoolctl import threadpool_limits

    products = train.features.size * (int(train.labels.max()) + 1)
    with threadpool_limits(torch.get_num_threads() if products > _SMALL else 1):
        yield


def fit(train: Samples, c: float, max_iter: int) -> tuple[LogisticRegression, bool]:
    """Train a probe; also whether the solver came to its end within `max_iter` steps."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("ignore")
        # with one shot a class it would also say that there are as many classes as samples
        warnings.simplefilter("always", ConvergenceWarning)
        probe = LogisticRegression(C=c, max_iter=max_iter).fit(train.features, train.labels)
    return probe, not told


def predicted(probe: LogisticRegression, features: Float[np.ndarray, "n c"]) -> Int[np.ndarray, " n"]:
    """The class of each row."""
    found: Int[np.ndarray, " n"] = probe.predict(features)
    return found


def choose(train: Samples, val: Samples, options: Probe) -> Choice:
    """Search C: what is right most often on `val` after training on `train`."""
    right: dict[float, float] = {}
    probes: dict[float, LogisticRegression] = {}
    unconverged = 0

    def best(exponents: Sequence[float]) -> float:
        nonlocal unconverged
        for exponent in exponents:
            if EXPONENTS[0] <= exponent <= EXPONENTS[-1] and exponent not in right:
                probes[exponent], converged = fit(train, 10.0**exponent, options.max_iter)
                found = predicted(probes[exponent], val.features)
                right[exponent] = 100 * float((found == val.labels).mean())
                unconverged += not converged
        return max(sorted(right), key=right.__getitem__)  # the first of equal ones

    chosen, step = best(EXPONENTS), EXPONENTS[1] - EXPONENTS[0]
    for _ in range(options.halvings):
        step /= 2
        chosen = best((chosen - step, chosen + step))
    return Choice(10.0**chosen, right[chosen], probes[chosen], len(right), unconverged)


def order_of(folder: str, count: int, seed: int) -> Int[np.ndarray, " n"]:
    """Numbers of a class's pictures in random order; seed, folder and count decide, no other class does."""
    from zlib import crc32

    stream = crc32(folder.encode(errors="surrogateescape"))
    return np.random.default_rng([seed, stream]).permutation(count)


def check_several(found: ClassFolders) -> None:
    """Refuse a single class.

    Raises:
        RegroupError: names it.
    """
    if len(found.folders) < 2:
        raise RegroupError(f"{found.folders[0]}: is the only class: a probe needs two to tell apart")
