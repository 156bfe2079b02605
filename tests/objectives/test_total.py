from __future__ import annotations

import ast
from dataclasses import replace

import pytest
import torch
from jaxtyping import TypeCheckError

from regroup.errors import RegroupError
from regroup.heads import HEADS as ROOM_OF_HEADS
from regroup.heads import build_heads
from regroup.model import GroupViTConfig
from regroup.objectives import (
    OBJECTIVES,
    Labels,
    Need,
    ObjectiveInputs,
    Term,
    check_names,
    needed_heads,
    needs,
    total_loss,
)
from regroup.objectives.contrastive import contrastive_loss
from regroup.objectives.multi_label import multi_label_loss
from regroup.plugins import Use

from .conftest import World

NAMES = OBJECTIVES.names
HEADS = needed_heads([Term(name=name) for name in NAMES])


@pytest.fixture
def inputs(world: World) -> ObjectiveInputs:
    def single(x: object) -> torch.Tensor:
        return torch.tensor(x, dtype=torch.float32)

    heads = build_heads(GroupViTConfig(), [Use(name=name) for name in HEADS], seed=0)
    return ObjectiveInputs(
        image=single(world.image),
        caption=single(world.caption),
        logit_scale=torch.tensor(1.0),
        multi_label_logit_scale=torch.tensor(2.0),
        given={
            Need.LABELS: Labels(single(world.labels), torch.tensor(world.ids)),
            Need.SEGMENTS: single(world.segments),
            Need.ATTENTION: single(world.attention),
            Need.DINO: single(world.dino),
        },
        heads=dict(heads.requires_grad_(False)),
    )


def value(inputs: ObjectiveInputs, name: str, **options: object) -> torch.Tensor:
    return total_loss([Term(name=name, options=options)], inputs).loss


def without(inputs: ObjectiveInputs, need: Need) -> ObjectiveInputs:
    return replace(inputs, given={key: kept for key, kept in inputs.given.items() if key != need})


def test_total_is_the_weighted_sum(inputs: ObjectiveInputs) -> None:
    """Each loss reads its own scale; metrics are unweighted."""
    result = total_loss([Term(name="contrastive"), Term(name="multi_label", weight=0.5)], inputs)
    first = contrastive_loss(inputs.image, inputs.caption, torch.tensor(1.0))
    labels = inputs.labels
    second = multi_label_loss(
        inputs.image, labels.features, torch.tensor(2.0), present=labels.present, padding="null"
    )
    assert float(result.loss) == pytest.approx(float(first + 0.5 * second))
    assert result.metrics == pytest.approx({"contrastive": float(first), "multi_label": float(second)})


def test_options_reach_the_objective(inputs: ObjectiveInputs) -> None:
    thesis, published = (float(value(inputs, "group_entropy", form=f)) for f in ("thesis", "published"))
    assert thesis != published
    assert float(value(inputs, "group_entropy")) == thesis
    assert value(inputs, "segment_entropy", form="published") > value(inputs, "segment_entropy")


def test_options_are_numbers_too(inputs: ObjectiveInputs) -> None:
    half = value(inputs, "segment_entropy", over_labels=0.1, over_groups=0.05)
    assert float(value(inputs, "segment_entropy")) == pytest.approx(2 * float(half), rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_float32_under_autocast(inputs: ObjectiveInputs, name: str) -> None:
    plain = value(inputs, name)
    with torch.autocast("cpu", torch.bfloat16):
        same = value(inputs, name)
    assert same.dtype == torch.float32
    assert float(same) == float(plain)
    labels = inputs.labels
    half = Labels(labels.features.bfloat16(), labels.ids)
    given = {**inputs.given, Need.LABELS: half}
    halves = replace(inputs, image=inputs.image.bfloat16(), caption=inputs.caption.bfloat16(), given=given)
    assert value(halves, name).dtype == torch.float32


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["group_entropi"],
            r"no such objective; did you mean `group_entropy`\?; there are contrastive, dino",
        ),
        (["contrastive", "contrastive"], "listed twice"),
    ],
)
def test_bad_names_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(RegroupError, match=message):
        check_names([Term(name=name) for name in names])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("group_entropy", {"from": "thesis"}, r"from: unknown key; did you mean `form`\?"),
        ("group_entropy", {"form": "third"}, r"form: Input should be 'thesis' or 'published'"),
        ("noise_free", {"scope": "all"}, r"scope: Input should be 'global' or 'local'"),
        ("segment_entropy", {"over_labels": -1}, "over_labels: Input should be greater than or equal to 0"),
        (
            "dino_distillation",
            {"form": "published", "rows": "sum"},
            "has a mean of rows of its own; drop `rows`",
        ),
        ("segment_entropy", {"over_labels": True}, "over_labels: a number or a word is wanted"),
    ],
)
def test_bad_options_are_refused(
    inputs: ObjectiveInputs, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(RegroupError, match=message):
        value(inputs, name, **options)


def test_empty_list_is_refused(inputs: ObjectiveInputs) -> None:
    with pytest.raises(RegroupError, match="nothing to minimise"):
        total_loss([], inputs)


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_reads_what_it_declares_and_nothing_else(inputs: ObjectiveInputs, name: str) -> None:
    declared = needs([Term(name=name)])
    heads = needed_heads([Term(name=name)])
    exact = replace(
        inputs,
        given={need: inputs.given[need] for need in declared},
        heads={head: inputs.heads[head] for head in heads},
    )
    assert float(value(exact, name)) == float(value(inputs, name))
    for need in declared:
        with pytest.raises(RegroupError, match=f"^{name}: needs {need}, which the batch lacks"):
            value(without(inputs, need), name)
    for head in heads:
        with pytest.raises(RegroupError, match=f"^{name}: needs the head {head}"):
            value(replace(inputs, heads={}), name)


def test_an_undeclared_read_is_an_error_even_where_another_objective_has_it(
    inputs: ObjectiveInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("regroup.objectives.group_entropy.NEEDS")
    both = [Term(name="dino_distillation"), Term(name="group_entropy")]
    with pytest.raises(RegroupError, match="group_entropy: reads attention, and its NEEDS do not say so"):
        total_loss(both, inputs)


def test_needs() -> None:
    assert needs([Term(name="contrastive")]) == set()
    terms = [Term(name=name) for name in ("contrastive", "segment_entropy", "group_entropy")]
    assert needs(terms) == {Need.LABELS, Need.ATTENTION, Need.SEGMENTS}
    assert needs([Term(name="dino_distillation")]) == {Need.ATTENTION, Need.DINO}


@pytest.mark.parametrize("name", NAMES)
def test_an_objective_says_what_it_computes(name: str) -> None:
    """And needs what there is."""
    module = OBJECTIVES.load(name)
    assert (module.__doc__ or "").strip()
    assert set(getattr(module, "NEEDS", ())) <= set(Need)
    assert set(getattr(module, "HEADS", ())) <= set(ROOM_OF_HEADS.names)


def test_no_module_that_all_share_names_an_objective() -> None:
    """Otherwise a new objective would make every run again."""
    shared = [path for path in OBJECTIVES.folder.glob("*.py") if path.name.startswith("_")]
    assert len(shared) > 3
    for path in shared:
        words = {
            node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)
        }
        assert not words & set(NAMES), path


def test_a_digest_is_of_what_the_objective_uses() -> None:
    files = {path.name for path in OBJECTIVES.files("multi_label")}
    assert {"multi_label.py", "_contrast.py", "_reduce.py", "_inputs.py", "__init__.py"} <= files
    assert not files & {f"{name}.py" for name in NAMES if name != "multi_label"}
    assert "_similarity.py" not in files


def test_shapes_in_signatures_are_checked_here(world: World) -> None:
    image, caption = torch.tensor(world.image), torch.tensor(world.caption)
    with pytest.raises(TypeCheckError):
        contrastive_loss(image, caption[:-1], torch.tensor(1.0))
