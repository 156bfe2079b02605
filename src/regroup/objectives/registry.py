"""Objectives by name: a new one is a function here and an entry in `variants.yaml`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args, get_type_hints

import torch
from torch import Tensor

from regroup.errors import RegroupError
from regroup.objectives import contrastive as c
from regroup.objectives import distillation, entropy
from regroup.objectives.contrastive import Form, Scope
from regroup.objectives.inputs import ObjectiveInputs, ObjectiveResult

Rows = Literal["sum", "mean"]


class Objective(Protocol):
    """A named term of the total loss."""

    def __call__(self, features: ObjectiveInputs, /, **options: str) -> ObjectiveResult:
        """Compute the term for one rank's batch."""


@dataclass(frozen=True)
class Needs:
    """Which optional inputs a list of objectives reads."""

    labels: bool = False
    attention: bool = False
    segments: bool = False
    dino: bool = False


OBJECTIVES: dict[str, Objective] = {}
_NEEDS: dict[str, Needs] = {}


def objective(*needs: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a function of `ObjectiveInputs` and keyword options under its name.

    Options are keyword-only, annotated with a `Literal` of strings, and have a default. The loss runs in
    float32 whatever autocast says.

    Args:
        needs: fields of `Needs` without which the objective cannot run.
    """

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        name = function.__name__
        wanted = Needs(**dict.fromkeys(needs, True))

        def run(features: ObjectiveInputs, /, **options: str) -> ObjectiveResult:
            validate_objectives([(name, options)])
            _require(name, wanted, features)
            with torch.autocast(features.image.device.type, enabled=False):
                loss = function(features, **options)
            return ObjectiveResult(loss, {name: loss.detach()})

        OBJECTIVES[name] = run
        _NEEDS[name] = wanted
        _OPTIONS[name] = _options_of(function)
        return function

    return register


_OPTIONS: dict[str, dict[str, tuple[str, ...]]] = {}


def _options_of(function: Callable[..., Tensor]) -> dict[str, tuple[str, ...]]:
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return {p.name: get_args(hints[p.name]) for p in parameters if p.kind is p.KEYWORD_ONLY}


def _require(name: str, wanted: Needs, features: ObjectiveInputs) -> None:
    remedies = {
        "labels": (features.labels, "give the variant labels"),
        "attention": (features.attention, "encode images with return_attention=True"),
        "segments": (features.segment_features, "encode images with return_segments=True"),
        "dino": (features.dino, "compute DINO features for the batch"),
    }
    for field, (value, remedy) in remedies.items():
        if getattr(wanted, field) and value is None:
            raise RegroupError(f"{name}: needs {field}, which the batch lacks; {remedy}")


def validate_objectives(terms: Iterable[tuple[str, Mapping[str, str]]]) -> None:
    """Check names and options without running anything.

    Args:
        terms: (name, options) of each objective.

    Raises:
        RegroupError: an unknown or repeated name, an unknown option or value; names the valid ones.
    """
    seen: set[str] = set()
    for name, options in terms:
        if name not in OBJECTIVES:
            raise RegroupError(f"{name}: no such objective; there are {', '.join(sorted(OBJECTIVES))}")
        if name in seen:
            raise RegroupError(f"{name}: listed twice; give it once, with the sum of the weights")
        seen.add(name)
        for key, value in options.items():
            known = _OPTIONS[name]
            if key not in known:
                valid = ", ".join(sorted(known)) or "none"
                raise RegroupError(f"{name}: {key}: no such option; valid: {valid}")
            if value not in known[key]:
                raise RegroupError(f"{name}: {key}: {value!r} is not one of {', '.join(known[key])}")


def needs(terms: Sequence[tuple[str, float, Mapping[str, str]]]) -> Needs:
    """What a batch must hold for these (name, weight, options)."""
    found = [_NEEDS[name] for name, _, _ in terms]
    return Needs(*(any(getattr(n, f) for n in found) for f in ("labels", "attention", "segments", "dino")))


@dataclass(frozen=True)
class TotalLoss:
    """The weighted sum of a variant's objectives, and each one's own unweighted value."""

    loss: Tensor
    metrics: dict[str, float]


def total_loss(terms: Sequence[tuple[str, float, Mapping[str, str]]], features: ObjectiveInputs) -> TotalLoss:
    """Sum of weight times objective over (name, weight, options).

    A NaN in the features makes the loss NaN: nothing is masked silently, the trainer must look.

    Raises:
        RegroupError: the list is empty or invalid, or the batch lacks what an objective reads.
    """
    if not terms:
        raise RegroupError("objectives: the list is empty, so there is nothing to minimise")
    validate_objectives([(name, options) for name, _, options in terms])
    results = [(weight, OBJECTIVES[name](features, **options)) for name, weight, options in terms]
    loss = torch.stack([weight * result.loss for weight, result in results]).sum()
    metrics = {key: value for _, result in results for key, value in result.metrics.items()}
    values = torch.stack(list(metrics.values())).tolist()  # one wait for the device, not one a metric
    return TotalLoss(loss, dict(zip(metrics, values, strict=True)))


def _labels(features: ObjectiveInputs) -> tuple[Tensor, Tensor | None]:
    """Label features and which places hold a label."""
    assert features.labels is not None
    return features.labels, None if features.label_ids is None else features.label_ids >= 0


@objective()
def contrastive(features: ObjectiveInputs, *, form: Form = "published") -> Tensor:
    """Image-caption contrastive loss (eq. 23 to 25)."""
    return c.contrastive_loss(features.image, features.caption, features.logit_scale, form=form)


@objective("labels")
def multi_label(features: ObjectiveInputs, *, form: Form = "published") -> Tensor:
    """Multi-label contrastive loss (eq. 26 to 28)."""
    labels, present = _labels(features)
    scale = features.multi_label_logit_scale
    return c.multi_label_loss(
        features.image, labels, scale, present=present, padding=features.padding, form=form
    )


@objective("labels")
def noise_free(features: ObjectiveInputs, *, scope: Scope = "global") -> Tensor:
    """Multi-label loss with equal labels as positives (section 5.10)."""
    labels, _ = _labels(features)
    if features.label_ids is None:
        raise RegroupError("noise_free: needs label_ids, which the batch lacks; number the label strings")
    scale = features.multi_label_logit_scale
    ids, padding = features.label_ids, features.padding
    return c.noise_free_loss(features.image, labels, ids, scale, padding=padding, scope=scope)


@objective("attention")
def group_entropy(features: ObjectiveInputs, *, form: Form = "thesis") -> Tensor:
    """GE (eq. 38 and 39)."""
    assert features.attention is not None
    return entropy.group_entropy(features.attention, form=form)


@objective("labels", "attention", "segments")
def label_entropy(features: ObjectiveInputs, *, form: Form = "thesis") -> Tensor:
    """LE (eq. 41 to 43)."""
    labels, present = _labels(features)
    assert features.attention is not None
    assert features.segment_features is not None
    return entropy.label_entropy(
        features.attention,
        features.segment_features,
        labels,
        present=present,
        padding=features.padding,
        form=form,
    )


@objective("labels", "segments")
def segment_entropy(features: ObjectiveInputs, *, form: Form = "thesis") -> Tensor:
    """SE (eq. 44 to 46); `published` adds the caption as a set of one label."""
    labels, present = _labels(features)
    assert features.segment_features is not None
    caption = features.caption if form == "published" else None
    return entropy.segment_entropy(
        features.segment_features, labels, present=present, padding=features.padding, caption=caption
    )


@objective("attention", "dino")
def dino_distillation(features: ObjectiveInputs, *, rows: Rows = "sum") -> Tensor:
    """Distillation of DINO's patch affinities (eq. 54)."""
    assert features.attention is not None
    assert features.dino is not None
    return distillation.dino_distillation(features.attention, features.dino, rows=rows)
