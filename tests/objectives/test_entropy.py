"""Equations 38 to 46 and 54."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from regroup.errors import RegroupError
from regroup.objectives.dino_distillation import dino_distillation
from regroup.objectives.group_entropy import group_entropy
from regroup.objectives.label_entropy import label_entropy
from regroup.objectives.segment_entropy import segment_entropy

from . import oracle
from .conftest import World
from .test_contrastive import PADDINGS, check_gradient, t

FORMS = ("thesis", "published")


@pytest.mark.parametrize("form", FORMS)
def test_group_entropy(world: World, form: str) -> None:
    expected = oracle.group_entropy(world.attention, published=form == "published")
    assert float(group_entropy(t(world.attention), form=form)) == pytest.approx(expected, rel=1e-12)
    check_gradient(lambda a: group_entropy(a, form=form), world.attention)


def test_group_entropy_lies_between_certainty_and_indifference() -> None:
    sure = torch.zeros(1, 4, 3, requires_grad=True)
    with torch.no_grad():
        sure[0, [0, 2, 2], [0, 1, 2]] = 1
    assert float(group_entropy(sure).detach()) == 0
    (gradient,) = torch.autograd.grad(group_entropy(sure), sure)
    assert torch.isfinite(gradient).all()
    assert float(group_entropy(torch.full((1, 4, 3), 0.25))) == pytest.approx(math.log(4))


def as_counted(world: World, padding: str, form: str) -> oracle.Array:
    """Labels as LE and SE see them: the form `published` takes what stands in an empty place."""
    return world.labels if form == "published" else world.padded(padding)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("form", FORMS)
def test_label_entropy(world: World, padding: str, form: str) -> None:
    present = t(world.present)
    expected = oracle.label_entropy(
        world.attention,
        world.segments,
        as_counted(world, padding, form),
        world.counted(padding),
        published=form == "published",
    )
    loss = label_entropy(
        t(world.attention), t(world.segments), t(world.labels), present=present, padding=padding, form=form
    )
    assert float(loss) == pytest.approx(expected, rel=1e-12)
    check_gradient(
        lambda a, s, x: label_entropy(a, s, x, present=present, padding=padding, form=form),
        world.attention,
        world.segments,
        world.labels,
    )


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("with_caption", [False, True])
def test_segment_entropy(world: World, padding: str, form: str, with_caption: bool) -> None:
    present, published = t(world.present), form == "published"
    labels_seen, used = as_counted(world, padding, form), world.counted(padding)
    expected = oracle.segment_entropy(world.segments, labels_seen, used, published=published)
    if with_caption:
        everywhere = np.ones((world.B, 1), dtype=bool)
        captions = world.caption[:, None]
        expected += oracle.segment_entropy(world.segments, captions, everywhere, published=published)

    def loss(segments: torch.Tensor, labels: torch.Tensor, caption: torch.Tensor) -> torch.Tensor:
        return segment_entropy(
            segments,
            labels,
            present=present,
            padding=padding,
            caption=caption if with_caption else None,
            form=form,
        )

    inputs = (world.segments, world.labels, world.caption)
    assert float(loss(*map(t, inputs))) == pytest.approx(expected, rel=1e-12)
    check_gradient(loss, *inputs)


def test_one_label_leaves_the_groups_certain_of_it(world: World) -> None:
    """Every softmax over one label is 1, so LE is 0 and SE is its second half alone."""
    labels = t(world.labels[:, :1])
    assert float(label_entropy(t(world.attention), t(world.segments), labels)) == pytest.approx(0, abs=1e-15)
    columns = [
        oracle.entropy(oracle.softmax(oracle.unit(s) @ oracle.unit(x[0]), 0))
        for s, x in zip(world.segments, world.labels, strict=True)
    ]
    assert float(segment_entropy(t(world.segments), labels)) == pytest.approx(0.1 * oracle.mean(columns))


@pytest.mark.parametrize("padding", ["null", "mask"])
def test_a_batch_without_any_label(world: World, padding: str) -> None:
    present = torch.zeros(world.B, world.K, dtype=torch.bool)
    segments = t(world.segments, requires_grad=True)
    arguments = {"present": present, "padding": padding}
    for value in (
        label_entropy(t(world.attention), segments, t(world.labels), **arguments),
        label_entropy(t(world.attention), segments, 0 * t(world.labels), form="published", **arguments),
        segment_entropy(segments, t(world.labels), **arguments),
    ):
        (gradient,) = torch.autograd.grad(value, segments)
        np.testing.assert_allclose(gradient.numpy(), 0, atol=1e-15)
        if padding == "mask":
            assert float(value.detach()) == 0
    none = label_entropy(t(world.attention), segments, t(world.labels[:, :0]))
    assert float(none.detach()) == 0


def test_nan_is_never_hidden(world: World) -> None:
    attention, segments = world.attention.copy(), world.segments.copy()
    attention[0, 0, 0] = segments[0, 0, 0] = np.nan
    labels, present = t(world.labels), t(world.present)
    assert torch.isnan(group_entropy(t(attention)))
    assert torch.isnan(
        label_entropy(t(attention), t(world.segments), labels, present=present, padding="mask")
    )
    assert torch.isnan(segment_entropy(t(segments), labels, present=present, padding="mask"))
    assert torch.isnan(dino_distillation(t(attention), t(world.dino)))


def test_distillation(world: World) -> None:
    expected = oracle.distillation(world.attention, world.dino)
    attention, dino = t(world.attention), t(world.dino)
    assert float(dino_distillation(attention, dino)) == pytest.approx(expected, rel=1e-12)
    assert float(dino_distillation(attention, dino, rows="mean")) == pytest.approx(
        expected / world.L, rel=1e-12
    )
    check_gradient(lambda a: dino_distillation(a, dino), world.attention)


def test_distillation_as_published(world: World) -> None:
    expected = oracle.published_distillation(world.attention, world.dino)
    attention, dino = t(world.attention), t(world.dino)
    assert float(dino_distillation(attention, dino, form="published")) == pytest.approx(expected, rel=1e-12)
    check_gradient(lambda a: dino_distillation(a, dino, form="published"), world.attention)


def test_the_teacher_gets_no_gradient(world: World) -> None:
    dino = t(world.dino, requires_grad=True)
    assert dino_distillation(t(world.attention, requires_grad=True), dino).requires_grad
    assert not dino_distillation(t(world.attention), dino).requires_grad


def test_other_numbers_of_patches_are_refused(world: World) -> None:
    with pytest.raises(RegroupError, match="5 DINO patches but 6 image patches"):
        dino_distillation(t(world.attention), t(world.dino[:, :5]))
