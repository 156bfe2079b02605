from __future__ import annotations

import pytest
import torch

from regroup.errors import RegroupError
from regroup.model import GroupViT, GroupViTConfig
from regroup.model.encoding import Noise
from regroup.model.layers import MLP, resize_positions

from .conftest import SMALL, make_tokens


@pytest.mark.parametrize("shape", [(32, 32), (48, 48), (24, 56), (64, 16)])
def test_any_size_that_the_patch_size_divides(small: GroupViT, shape: tuple[int, int]) -> None:
    features = small.encode_image(torch.randn(2, 3, *shape), return_attention=True)
    patches = shape[0] // 8 * (shape[1] // 8)
    assert features.feature.shape == (2, 12)
    assert features.segment_features.shape == (2, 3, 12)
    assert features.attention.shape == (2, 3, patches)
    assert features.patches is not None
    assert features.patches.shape == (2, patches, 24)


@pytest.mark.parametrize("shape", [(2, 3, 33, 32), (2, 1, 32, 32), (3, 32, 32)])
def test_other_shapes_are_refused(small: GroupViT, shape: tuple[int, ...]) -> None:
    with pytest.raises(RegroupError, match="multiples of the patch size 8"):
        small.encode_image(torch.zeros(shape))


def test_positions_are_resized_along_the_right_axes() -> None:
    """Bicubic keeps affine functions away from the border: rows stay rows, columns columns."""
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    positions = torch.stack([row.flatten(), column.flatten(), torch.ones(64)], 1)
    resized = resize_positions(positions, 16, 24).view(16, 24, 3)
    rows, columns = (torch.arange(16) + 0.5) / 2 - 0.5, (torch.arange(24) + 0.5) / 3 - 0.5
    inner = resized[4:-4, 6:-6]
    torch.testing.assert_close(inner[..., 0], rows[4:-4, None].expand(8, 12), atol=0.06, rtol=0)
    torch.testing.assert_close(inner[..., 1], columns[None, 6:-6].expand(8, 12), atol=0.06, rtol=0)
    torch.testing.assert_close(resized[..., 2], torch.ones(16, 24))
    assert resize_positions(positions, 8, 8) is positions


def test_a_mirrored_grid_mirrors_the_positions() -> None:
    positions = torch.randn(16, 5)
    resized = resize_positions(positions, 7, 6).view(7, 6, 5)
    transposed = resize_positions(positions.view(4, 4, 5).transpose(0, 1).reshape(16, 5), 6, 7).view(6, 7, 5)
    torch.testing.assert_close(resized.transpose(0, 1), transposed)


def silence(noise: Noise) -> Noise:
    assert noise.keep is not None
    return Noise(torch.ones_like(noise.keep), tuple(torch.zeros_like(gumbel) for gumbel in noise.gumbel))


def test_training_without_noise_is_inference(small: GroupViT, pixels: torch.Tensor) -> None:
    noise = small.draw_noise(pixels)
    quiet = small.encode_image(pixels, noise=silence(noise), return_attention=True)
    plain = small.encode_image(pixels, return_attention=True)
    torch.testing.assert_close(quiet.segments, plain.segments)
    assert not torch.allclose(small.encode_image(pixels, noise=noise).segments, plain.segments)


def test_soft_assignment_of_the_first_block_is_without_noise(small: GroupViT, pixels: torch.Tensor) -> None:
    noise = small.draw_noise(pixels, torch.Generator().manual_seed(0))
    assert noise.keep is not None
    noisy = small.encode_image(
        pixels, noise=Noise(torch.ones_like(noise.keep), noise.gumbel), return_attention=True
    )
    plain = small.encode_image(pixels, return_attention=True)
    torch.testing.assert_close(noisy.soft[0], plain.soft[0])
    assert not torch.equal(noisy.hard[0], plain.hard[0])


def test_drop_path_rises_over_the_blocks_and_keeps_the_mean() -> None:
    from dataclasses import replace

    image = replace(SMALL.image, drop_path=0.6)
    model = GroupViT(replace(SMALL, image=image))
    keep = model.draw_noise(torch.empty(4000, 3, 32, 32), torch.Generator().manual_seed(0)).keep
    assert keep is not None
    assert keep.shape == (8, 4000, 1, 1)
    rates = (keep == 0).float().mean((1, 2, 3))
    torch.testing.assert_close(rates, torch.tensor([0.0, 0, 0.2, 0.2, 0.4, 0.4, 0.6, 0.6]), atol=0.04, rtol=0)
    torch.testing.assert_close(keep.mean((1, 2, 3)), torch.ones(8), atol=0.08, rtol=0)


def test_a_dropped_sample_passes_its_block_unchanged(small: GroupViT) -> None:
    block = small.image.stages[0].blocks[0]
    x = torch.randn(2, 5, 24)
    keep = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1).expand(2, 2, 1, 1)
    out = block(x, keep)
    assert torch.equal(out[0], x[0])
    torch.testing.assert_close(out[1], block(x)[1])


def test_random_numbers_come_from_the_generator(small: GroupViT, pixels: torch.Tensor) -> None:
    small.train()
    state = torch.get_rng_state()
    first, again, other = (
        small.encode_image(pixels, generator=torch.Generator().manual_seed(seed)).segments
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_inference_draws_nothing(small: GroupViT, pixels: torch.Tensor) -> None:
    assert torch.equal(small.encode_image(pixels).feature, small.encode_image(pixels).feature)


def test_segments_are_projected_on_request_only(small: GroupViT, pixels: torch.Tensor) -> None:
    assert small.encode_image(pixels, return_segments=False).segment_features.shape == (3, 0, 12)


def test_feature_is_the_projected_average(small: GroupViT, pixels: torch.Tensor) -> None:
    """Eq. 21 and 29, with the projector written out."""
    features = small.double().encode_image(pixels.double())

    def project(x: torch.Tensor) -> torch.Tensor:
        p = small.image_projector
        hidden = x @ p.hidden.weight.T + p.hidden.bias
        assert p.norm.running_mean is not None
        assert p.norm.running_var is not None
        hidden = (hidden - p.norm.running_mean) / (
            p.norm.running_var + 1e-5
        ).sqrt() * p.norm.weight + p.norm.bias
        return hidden.clamp(min=0) @ p.out.weight.T + p.out.bias

    torch.testing.assert_close(features.feature, project(features.segments.mean(1)))
    torch.testing.assert_close(features.segment_features, project(features.segments))


def test_other_features_as_input_of_the_second_stage(small: GroupViT, pixels: torch.Tensor) -> None:
    """Section 5.14.2: they are grouped by the second block, and the assignment is over them."""
    tokens = torch.randn(3, 16, 24, generator=torch.Generator().manual_seed(0))
    features = small.encode_image(pixels, return_attention=True, stage_two_tokens=tokens)
    assert [tuple(soft.shape) for soft in features.soft] == [(3, 3, 16)]
    stage = small.image.stages[1]
    own, groups = small.image.stages[0](small.image.embed(pixels), None, None)
    _, previous = own, groups
    mixed, second = stage(tokens, previous, None)
    expected = stage.grouping(mixed, second, return_attention=True)
    torch.testing.assert_close(features.attention, expected.soft)
    assert small.train().encode_image(pixels, stage_two_tokens=tokens).feature.shape == (3, 12)


def test_attention_without_the_request_is_an_error(small: GroupViT, pixels: torch.Tensor) -> None:
    with pytest.raises(RegroupError, match="return_attention=True"):
        _ = small.encode_image(pixels).attention


def test_bf16_keeps_the_assignment_in_float32(small: GroupViT, pixels: torch.Tensor) -> None:
    plain = small.encode_image(pixels, return_attention=True)
    with torch.autocast("cpu", torch.bfloat16):
        half = small.encode_image(pixels, return_attention=True)
    assert all(soft.dtype == torch.float32 for soft in half.soft)
    assert half.attention.dtype == torch.float32
    torch.testing.assert_close(half.attention.sum(1), torch.ones(3, 16), atol=1e-5, rtol=0)
    assert float(torch.cosine_similarity(half.feature.float(), plain.feature).detach().min()) > 0.98


def test_bf16_keeps_every_normalisation_in_float32(small: GroupViT, pixels: torch.Tensor) -> None:
    kinds = torch.nn.LayerNorm | torch.nn.BatchNorm1d
    norms = [module for module in small.modules() if isinstance(module, kinds)]
    seen: dict[torch.nn.Module, torch.dtype] = {}

    def note(module: torch.nn.Module, _inputs: object, out: torch.Tensor) -> None:
        seen[module] = out.dtype

    for module in norms:
        module.register_forward_hook(note)
    small.train()
    with torch.autocast("cpu", torch.bfloat16):
        features = small.encode_image(pixels)
        small.encode_text(make_tokens([[300], [301]]))
    assert [seen.get(module) for module in norms] == [torch.float32] * len(norms)
    assert features.segment_features.dtype == torch.bfloat16


def test_initial_weights_come_from_the_generator() -> None:
    state = torch.get_rng_state()
    first, again, other = (
        GroupViT(SMALL, generator=torch.Generator().manual_seed(seed)).state_dict() for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["image.positions"], other["image.positions"])
    assert float(first["logit_scale"].exp()) == pytest.approx(1 / 0.07)
    assert not first["image.stages.1.group_tokens"].any()
    assert float(first["image.stages.0.group_tokens"].std()) == pytest.approx(0.02, rel=0.3)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"image": {"patch": 8}}, "image.patch"),
        ({"image": {"width": "wide"}}, "image.width"),
        ({"image": {"heads": 5}}, "image"),
        ({"image": {"stages": [{"depth": 1}, {"depth": 1}]}}, "image"),
        ({"image": {"stages": [{"depth": 0, "group_tokens": 1}, {"depth": 1}]}}, "image.stages.0"),
        ({"text": {"vocabulary": 40000}}, "text"),
        ({"colour": 1}, "colour"),
    ],
)
def test_bad_settings_are_named(change: dict[str, object], key: str) -> None:
    with pytest.raises(RegroupError, match=f"file: {key}"):
        GroupViTConfig.from_dict(change, source="file")


def test_settings_survive_json() -> None:
    import json

    assert GroupViTConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL


def test_a_nan_pixel_shows_in_its_own_image_alone(small: GroupViT, pixels: torch.Tensor) -> None:
    """Nothing is masked: the feature is NaN, and so is any loss; other images are not touched."""
    spoilt = pixels.clone()
    spoilt[1, 0, 3, 3] = torch.nan
    features, plain = small.encode_image(spoilt), small.encode_image(pixels)
    for found, expected in (
        (features.feature, plain.feature),
        (features.segment_features, plain.segment_features),
    ):
        assert torch.isnan(found[1]).any()
        torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])


def test_what_is_known_of_the_first_stage_need_not_be_computed(small: GroupViT, pixels: torch.Tensor) -> None:
    noise = small.draw_noise(pixels, torch.Generator().manual_seed(0))
    first = small.image.run_first_stage(pixels, noise.keep[:4])
    again = small.encode_image(pixels, noise=noise, first_stage=first, return_attention=True)
    plain = small.encode_image(pixels, noise=noise, return_attention=True)
    assert torch.equal(again.feature, plain.feature)
    assert torch.equal(again.attention, plain.attention)


@pytest.mark.parametrize("quick", [False, True])
def test_activations_without_gradient_are_the_same(quick: bool) -> None:
    """They are computed in place there; the input of the layer stays as it was."""
    torch.manual_seed(0)
    layer, x = MLP(6, 20, quick=quick), torch.randn(5, 6)
    before = x.clone()
    with torch.no_grad():
        plain = layer(x)
    assert torch.equal(plain, layer(x).detach())
    assert torch.equal(x, before)
