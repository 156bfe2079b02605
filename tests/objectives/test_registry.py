from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from regroup.errors import RegroupError
from regroup.objectives import OBJECTIVES, Needs, ObjectiveInputs, needs, total_loss, validate_objectives
from regroup.objectives.contrastive import contrastive_loss, multi_label_loss

from .conftest import World


@pytest.fixture
def inputs(world: World) -> ObjectiveInputs:
    def single(x: object) -> torch.Tensor:
        return torch.tensor(x, dtype=torch.float32)

    return ObjectiveInputs(
        image=single(world.image),
        caption=single(world.caption),
        labels=single(world.labels),
        label_ids=torch.tensor(world.ids),
        segment_features=single(world.segments),
        attention=single(world.attention),
        dino=single(world.dino),
        logit_scale=torch.tensor(1.0),
        multi_label_logit_scale=torch.tensor(2.0),
    )


def test_total_is_the_weighted_sum(inputs: ObjectiveInputs) -> None:
    """Each loss reads its own scale; metrics are unweighted."""
    result = total_loss([("contrastive", 1.0, {}), ("multi_label", 0.5, {})], inputs)
    assert inputs.labels is not None
    first = contrastive_loss(inputs.image, inputs.caption, torch.tensor(1.0))
    second = multi_label_loss(
        inputs.image, inputs.labels, torch.tensor(2.0), present=inputs.label_ids >= 0, padding="null"
    )
    assert float(result.loss) == pytest.approx(float(first + 0.5 * second))
    assert result.metrics == pytest.approx({"contrastive": float(first), "multi_label": float(second)})


def test_options_reach_the_objective(inputs: ObjectiveInputs) -> None:
    forms = [OBJECTIVES["group_entropy"](inputs, form=form).loss for form in ("thesis", "published")]
    assert float(forms[0]) != float(forms[1])
    assert float(OBJECTIVES["group_entropy"](inputs).loss) == float(forms[0])
    segment = [OBJECTIVES["segment_entropy"](inputs, form=form).loss for form in ("thesis", "published")]
    assert float(segment[1]) > float(segment[0])


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
def test_float32_under_autocast(inputs: ObjectiveInputs, name: str) -> None:
    plain = OBJECTIVES[name](inputs).loss
    with torch.autocast("cpu", torch.bfloat16):
        same = OBJECTIVES[name](inputs).loss
    assert same.dtype == torch.float32
    assert float(same) == float(plain)
    assert inputs.labels is not None
    half = replace(inputs, image=inputs.image.bfloat16(), labels=inputs.labels.bfloat16())
    assert OBJECTIVES[name](half).loss.dtype == torch.float32


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([("entropy", {})], r"entropy: no such objective; there are contrastive, dino_distillation"),
        ([("group_entropy", {"kind": "thesis"})], r"group_entropy: kind: no such option; valid: form"),
        ([("group_entropy", {"form": "third"})], r"form: 'third' is not one of thesis, published"),
        ([("noise_free", {"scope": "all"})], r"scope: 'all' is not one of global, local"),
        ([("contrastive", {}), ("contrastive", {})], "listed twice"),
    ],
)
def test_bad_lists_are_refused(terms: list[tuple[str, dict[str, str]]], message: str) -> None:
    with pytest.raises(RegroupError, match=message):
        validate_objectives(terms)


def test_empty_list_is_refused(inputs: ObjectiveInputs) -> None:
    with pytest.raises(RegroupError, match="nothing to minimise"):
        total_loss([], inputs)


@pytest.mark.parametrize(
    ("name", "missing", "message"),
    [
        ("multi_label", "labels", "give the variant labels"),
        ("noise_free", "label_ids", "label_ids"),
        ("group_entropy", "attention", "return_attention=True"),
        ("label_entropy", "segment_features", "return_segments=True"),
        ("dino_distillation", "dino", "DINO features"),
    ],
)
def test_missing_inputs_are_named(inputs: ObjectiveInputs, name: str, missing: str, message: str) -> None:
    with pytest.raises(RegroupError, match=message):
        OBJECTIVES[name](replace(inputs, **{missing: None}))


def test_needs() -> None:
    assert needs([("contrastive", 1.0, {})]) == Needs()
    terms = [("contrastive", 1.0, {}), ("segment_entropy", 1.0, {}), ("group_entropy", 1.0, {})]
    assert needs(terms) == Needs(labels=True, attention=True, segments=True)
    assert needs([("dino_distillation", 1.0, {})]) == Needs(attention=True, dino=True)
