"""Equations 23 to 28 and the noise-free loss."""

from __future__ import annotations

from collections.abc import Callable

import jaxtyping
import numpy as np
import pytest
import torch
from torch import Tensor

from regroup.objectives.contrastive import contrastive_loss
from regroup.objectives.multi_label import multi_label_loss
from regroup.objectives.noise_free import (
    compare_all,
    label_matches,
    noise_free_loss,
    noise_free_targets,
)

from . import oracle
from .conftest import World

PADDINGS = ("caption", "null", "mask", "denominator")
t = torch.tensor


def scale(world: World) -> Tensor:
    return torch.tensor(1 / world.tau, dtype=torch.float64).log()


def check_gradient(function: Callable[..., Tensor], *inputs: np.ndarray) -> None:
    tensors = [t(value, requires_grad=True) for value in inputs]
    function(*tensors)  # with shapes checked; thousands of calls follow, and checking is slow
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        assert torch.autograd.gradcheck(function, tensors)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize("form", ["published", "thesis"])
def test_contrastive(world: World, form: str) -> None:
    first, second = oracle.contrastive(world.image, world.caption, world.tau)
    expected = first + second if form == "thesis" else (first + second) / 2
    loss = contrastive_loss(t(world.image), t(world.caption), scale(world), form=form)
    assert float(loss) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("form", ["published", "thesis"])
def test_multi_label(world: World, padding: str, form: str) -> None:
    first, second = oracle.multi_label(
        world.image,
        world.padded(padding),
        world.tau,
        world.used(padding),
        shared=form == "published",
        compared=world.compared(padding),
    )
    expected = first + second if form == "thesis" else (first + second) / 2
    loss = multi_label_loss(
        t(world.image), t(world.labels), scale(world), present=t(world.present), padding=padding, form=form
    )
    assert float(loss) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("scope", ["local", "global"])
def test_noise_free(world: World, padding: str, scope: str) -> None:
    expected = oracle.noise_free(
        world.image,
        world.padded(padding),
        world.strings,
        world.tau,
        world.used(padding),
        compared=world.compared(padding),
    )
    loss = noise_free_loss(
        t(world.image), t(world.labels), t(world.ids), scale(world), padding=padding, scope=scope
    )
    assert float(loss) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients(world: World, padding: str) -> None:
    present, ids = t(world.present), t(world.ids)
    s = scale(world).numpy()
    check_gradient(lambda *x: contrastive_loss(*x), world.image, world.caption, s)
    for form in ("published", "thesis"):
        check_gradient(
            lambda i, x, s, form=form: multi_label_loss(i, x, s, present=present, padding=padding, form=form),
            world.image,
            world.labels,
            s,
        )
    check_gradient(
        lambda i, x, s: noise_free_loss(i, x, ids, s, padding=padding), world.image, world.labels, s
    )


def test_without_equal_labels_noise_free_is_multi_label(world: World) -> None:
    ids = torch.arange(world.B * world.K).view(world.B, world.K)
    arguments = (t(world.image), t(world.labels))
    assert float(noise_free_loss(*arguments, ids, scale(world))) == pytest.approx(
        float(multi_label_loss(*arguments, scale(world))), rel=1e-12
    )


def test_without_equal_labels_padding_that_is_compared_alone_is_so_in_both(world: World) -> None:
    ids = torch.arange(world.B * world.K).view(world.B, world.K).where(t(world.present), -1)
    arguments = (t(world.image), t(world.labels))
    assert float(noise_free_loss(*arguments, ids, scale(world), padding="denominator")) == pytest.approx(
        float(multi_label_loss(*arguments, scale(world), present=ids >= 0, padding="denominator")), rel=1e-12
    )


def test_noise_free_targets_against_a_loop_over_strings() -> None:
    rng = np.random.default_rng(3)
    words = ["cat", "dog", "mat", "sky", "sea", "car", "bus", "egg"]
    strings = [list(rng.choice(words, size=4)) for _ in range(20)]
    ids = t([[words.index(word) for word in row] for row in strings])
    ids[3, 2] = ids[7, 1] = ids[7, 3] = -1
    image_to_label, label_to_image = (x.numpy() for x in noise_free_targets(ids))
    for i in range(20):
        own = {strings[i][k] for k in range(4) if ids[i, k] >= 0}
        row = [float(strings[j][k] in own if ids[j, k] >= 0 else i == j) for j in range(20) for k in range(4)]
        np.testing.assert_allclose(image_to_label[i], np.array(row) / sum(row), rtol=1e-6)
    for j in range(20):
        for k in range(4):
            known = ids[j, k] >= 0
            owners = [
                float(
                    strings[j][k] in {strings[i][m] for m in range(4) if ids[i, m] >= 0} if known else i == j
                )
                for i in range(20)
            ]
            np.testing.assert_allclose(label_to_image[j * 4 + k], np.array(owners) / sum(owners), rtol=1e-6)


def test_both_ways_to_match_labels_agree() -> None:
    """The one for GPUs runs anywhere."""
    ids = torch.randint(-40, 40, (30, 4), generator=torch.Generator().manual_seed(0))
    places = torch.randint(-50, 50, (70,), generator=torch.Generator().manual_seed(1))
    matches = label_matches(ids, places)
    assert matches.any()
    assert torch.equal(matches, compare_all(ids, places))


def test_the_scale_is_cut_at_one_hundred(world: World) -> None:
    losses = [contrastive_loss(t(world.image), t(world.caption), t(value).double()) for value in (4.7, 9.0)]
    assert float(losses[0]) == float(losses[1])


def losses(labels: Tensor, ids: Tensor, image: Tensor, padding: str) -> list[Tensor]:
    s = torch.zeros((), dtype=torch.float64)
    return [
        multi_label_loss(image, labels, s, present=ids >= 0, padding=padding),
        multi_label_loss(image, labels, s, present=ids >= 0, padding=padding, form="thesis"),
        noise_free_loss(image, labels, ids, s, padding=padding),
    ]


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_batch_without_any_label(world: World, padding: str) -> None:
    """Finite always; masked or null padding pulls no image anywhere, a caption in its place still does."""
    ids = torch.full((world.B, world.K), -1)
    for place, value in enumerate(
        losses(t(world.labels), ids, (image := t(world.image, requires_grad=True)), padding)
    ):
        assert torch.isfinite(value)
        (gradient,) = torch.autograd.grad(value, image)
        assert torch.isfinite(gradient).all()
        assert bool(gradient.any()) == (padding == "caption"), place
        if padding in ("mask", "denominator"):
            assert float(value.detach()) == 0


def test_no_label_places_at_all(world: World) -> None:
    image = t(world.image, requires_grad=True)
    ids = torch.zeros(world.B, 0, dtype=torch.int64)
    for value in losses(torch.zeros(world.B, 0, world.C, dtype=torch.float64), ids, image, "null"):
        assert float(value.detach()) == 0
        assert not torch.autograd.grad(value, image)[0].any()


@pytest.mark.parametrize("padding", ["null", "mask", "denominator"])
def test_what_stands_at_padding_does_not_matter(world: World, padding: str) -> None:
    other = world.labels.copy()
    other[~world.present] = np.nan
    for a, b in zip(
        losses(t(world.labels), t(world.ids), t(world.image), padding),
        losses(t(other), t(world.ids), t(world.image), padding),
        strict=True,
    ):
        assert float(a) == float(b)


@pytest.mark.parametrize("padding", PADDINGS)
def test_nan_is_never_hidden(world: World, padding: str) -> None:
    for spoil in ("image", "labels"):
        image, labels = world.image.copy(), world.labels.copy()
        (image if spoil == "image" else labels)[0] = np.nan
        assert all(torch.isnan(v) for v in losses(t(labels), t(world.ids), t(image), padding))


def test_duplicates_within_an_image_count_once_each(world: World) -> None:
    """Two places of the same label are two positives of their image."""
    ids = t([[0, 0], [1, 2]])
    image_to_label, label_to_image = noise_free_targets(ids)
    assert image_to_label.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]]
    assert label_to_image.tolist() == [[1, 0], [1, 0], [0, 1], [0, 1]]
