"""Equations 17 to 20 against NumPy in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from regroup.model import GroupViT, ImageEncoding
from regroup.model.grouping import Assignment, straight_through
from regroup.model.image import ImageTower
from regroup.model.layers import CrossAttention

from .conftest import SMALL

Array = NDArray[np.float64]
RNG = np.random.default_rng(0)


def linear(layer: torch.nn.Linear, x: Array) -> Array:
    return x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def norm(layer: torch.nn.LayerNorm, x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * layer.weight.detach().numpy() + layer.bias.detach().numpy()


@pytest.mark.parametrize("noise", [False, True])
def test_assignment(noise: bool) -> None:
    """Eq. 17 (softmax over groups), 18 (one-hot) and 19 (mean of each group, one added to its size)."""
    torch.manual_seed(0)
    layer = Assignment(10, 1.0).double()
    groups, tokens = RNG.normal(size=(2, 3, 10)), RNG.normal(size=(2, 7, 10))
    gumbel = RNG.gumbel(size=(2, 3, 7)) if noise else np.zeros((2, 3, 7))
    result = layer(
        torch.tensor(groups),
        torch.tensor(tokens),
        torch.tensor(gumbel) if noise else None,
        return_attention=True,
    )
    for b in range(2):
        query, key, value = (
            linear(layer.query, groups[b]),
            linear(layer.key, tokens[b]),
            linear(layer.value, tokens[b]),
        )
        logits = query @ key.T / math.sqrt(10)
        hard = np.zeros((3, 7))
        for token in range(7):
            hard[np.argmax(softmax(logits + gumbel[b], 0)[:, token]), token] = 1
        merged = np.stack([hard[g] @ value / (hard[g].sum() + 1) for g in range(3)])
        np.testing.assert_allclose(result.soft[b].detach().numpy(), softmax(logits, 0), rtol=1e-12)
        np.testing.assert_array_equal(result.hard[b].numpy(), hard)
        np.testing.assert_allclose(result.segments[b].detach().numpy(), linear(layer.out, merged), rtol=1e-12)


def test_straight_through_has_the_value_of_one_hot_and_the_gradient_of_softmax() -> None:
    logits = torch.tensor(RNG.normal(size=(1, 4, 5)), requires_grad=True)
    weight = RNG.normal(size=(1, 4, 5))
    hard = straight_through(torch.softmax(logits, 1))
    assert set(hard.detach().unique().tolist()) == {0.0, 1.0}
    (hard * torch.tensor(weight)).sum().backward()
    soft = softmax(logits.detach().numpy(), 1)
    expected = soft * (weight - (soft * weight).sum(1, keepdims=True))
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-10)


def test_assignment_gradient_is_that_of_the_soft_relaxation() -> None:
    """By the quotient rule on eq. 19 with one-hot values, then softmax's Jacobian."""
    torch.manual_seed(1)
    layer = Assignment(6, 1.0).double()
    groups = torch.tensor(RNG.normal(size=(1, 3, 6)), requires_grad=True)
    tokens, weight = RNG.normal(size=(1, 5, 6)), RNG.normal(size=(3, 6))
    out = layer(groups, torch.tensor(tokens), None, return_attention=False).segments
    (out[0] * torch.tensor(weight)).sum().backward()
    query, key = linear(layer.query, groups.detach().numpy()[0]), linear(layer.key, tokens[0])
    value, out_weight = linear(layer.value, tokens[0]), layer.out.weight.detach().numpy()
    soft = softmax(query @ key.T / math.sqrt(6), 0)
    hard = (soft == soft.max(0)).astype(float)
    size = hard.sum(1, keepdims=True) + 1
    upstream = weight @ out_weight  # gradient of each group's mean
    mean = hard @ value / size
    to_hard = (upstream @ value.T - (upstream * mean).sum(1, keepdims=True)) / size
    to_logits = soft * (to_hard - (soft * to_hard).sum(0))
    expected = (to_logits @ key / math.sqrt(6)) @ layer.query.weight.detach().numpy()
    assert groups.grad is not None
    np.testing.assert_allclose(groups.grad.numpy()[0], expected, rtol=1e-9)


def test_cross_attention() -> None:
    torch.manual_seed(2)
    layer = CrossAttention(8, 2).double()
    groups, tokens = RNG.normal(size=(1, 3, 8)), RNG.normal(size=(1, 5, 8))
    query, key, value = (
        linear(layer.query, groups[0]),
        linear(layer.key, tokens[0]),
        linear(layer.value, tokens[0]),
    )
    heads = [softmax(query[:, h] @ key[:, h].T / 2, 1) @ value[:, h] for h in (slice(0, 4), slice(4, 8))]
    expected = linear(layer.out, np.concatenate(heads, 1))
    ours = layer(torch.tensor(groups), torch.tensor(tokens))[0].detach().numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


def test_group_tokens_of_a_later_stage(small: GroupViT) -> None:
    """Eq. 20: learned tokens plus a token-mixing MLP of the normalised tokens of the stage before."""
    stage = small.double().image.stages[1]
    previous = RNG.normal(size=(2, 6, 24))
    seen = []
    stage.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    stage(torch.zeros(2, 6, 24, dtype=torch.float64), torch.tensor(previous), None)
    layer, mixer = stage.carry[0], stage.carry[1].mlp
    gelu = np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2))))
    mixed = linear(mixer.down, gelu(linear(mixer.up, norm(layer, previous).swapaxes(1, 2)))).swapaxes(1, 2)
    expected = stage.group_tokens.detach().numpy() + mixed
    np.testing.assert_allclose(seen[0][:, 6:].detach().numpy(), expected, rtol=1e-10)


def test_attention_is_the_product_and_a_distribution_over_groups(
    small: GroupViT, pixels: torch.Tensor
) -> None:
    """Eq. 34."""
    features = small.double().encode_image(pixels.double(), return_attention=True)
    first, second = (soft.detach().numpy() for soft in features.soft)
    expected = np.einsum("bij,bjk->bik", second, first)
    np.testing.assert_allclose(features.attention.detach().numpy(), expected, rtol=1e-10)
    np.testing.assert_allclose(features.attention.sum(1).detach().numpy(), 1, rtol=1e-10)


def test_gumbel_noise_has_the_distribution_and_comes_from_the_generator() -> None:
    tower = ImageTower(SMALL.image)
    pixels = torch.empty(200, 3, 32, 32)
    first = tower.draw_noise(pixels, torch.Generator().manual_seed(5))
    again = tower.draw_noise(pixels, torch.Generator().manual_seed(5))
    other = tower.draw_noise(pixels, torch.Generator().manual_seed(6))
    assert [noise.shape for noise in first.gumbel] == [(200, 6, 16), (200, 3, 6)]
    assert torch.equal(first.gumbel[0], again.gumbel[0])
    assert not torch.equal(first.gumbel[0], other.gumbel[0])
    values = first.gumbel[0].double().numpy().ravel()
    assert values.mean() == pytest.approx(np.euler_gamma, abs=0.04)
    assert values.std() == pytest.approx(math.pi / math.sqrt(6), abs=0.04)


def test_without_the_request_nothing_is_returned(small: GroupViT, pixels: torch.Tensor) -> None:
    plain, full = small.encode_image(pixels), small.encode_image(pixels, return_attention=True)
    assert plain.soft == ()
    assert plain.hard == ()
    assert plain.patches is None
    assert torch.equal(plain.feature, full.feature)
    assert full.patches is not None
    assert full.patches.shape == (3, 16, 24)


def test_gradients_of_equations_17_and_20() -> None:
    """Against finite differences; eq. 18 has none, see above."""
    torch.manual_seed(3)
    assignment, cross = Assignment(6, 1.0).double(), CrossAttention(6, 2).double()
    carry = GroupViT(SMALL).double().image.stages[1].carry
    groups, tokens, previous = (
        torch.tensor(RNG.normal(size=shape), requires_grad=True)
        for shape in ((1, 3, 6), (1, 4, 6), (1, 6, 24))
    )

    def soft(groups: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        found = assignment(groups, tokens, None, return_attention=True).soft
        assert found is not None
        return found

    assert torch.autograd.gradcheck(soft, (groups, tokens))
    assert torch.autograd.gradcheck(cross, (groups, tokens))
    assert torch.autograd.gradcheck(carry, (previous,))


def test_gradients_of_equation_34() -> None:
    def attention(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        none = torch.empty(0)
        return ImageEncoding(none, none, none, (first, second)).attention

    first, second = (torch.tensor(RNG.uniform(size=s), requires_grad=True) for s in ((2, 4, 5), (2, 3, 4)))
    assert torch.autograd.gradcheck(attention, (first, second))
