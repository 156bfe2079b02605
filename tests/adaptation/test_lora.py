"""LoRA: the same model at the start, a low-rank one at the end, and plain again."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
import torch
from torch import nn

from regroup.adaptation import Adapted
from regroup.adaptation.lora import Target
from regroup.backbones import ROOM as BACKBONES
from regroup.captions.tokens import tokenize
from regroup.model import GroupViT
from regroup.model.dropout import Rows, place_rows, row_dropouts
from tests.backbones.test_room import made
from tests.training.tiny import model

from .test_adapt import apply, lora

TARGETS = list(get_args(Target))


def features(of: GroupViT) -> tuple[torch.Tensor, torch.Tensor]:
    kind = of.logit_scale.dtype
    tokens = torch.from_numpy(tokenize(["a dog", "a red car on the road"]))
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(kind)
    with torch.no_grad():
        return of.encode_image(pixels).feature, of.encode_text(tokens)


def learned(start: GroupViT, **options: object) -> tuple[Adapted, GroupViT]:
    """The model with adapters that have learned something."""
    trained = copy.deepcopy(start)
    adapted = apply(trained, lora(**options))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.05, generator=generator)
    return adapted, trained


@pytest.mark.parametrize("target", TARGETS)
def test_the_model_starts_as_it_was_and_merged_is_as_adapted(target: str) -> None:
    start = model().eval()
    begun = copy.deepcopy(start)
    apply(begun, lora(targets=[target]))
    assert all(torch.equal(*pair) for pair in zip(features(begun), features(start), strict=True))

    adapted, trained = learned(start, targets=[target])
    ends = features(trained)
    assert any((end - was).abs().max() > 1e-3 for end, was in zip(ends, features(start), strict=True))
    merged = adapted.export(trained)
    for end, plain in zip(ends, features(merged), strict=True):
        torch.testing.assert_close(plain, end, rtol=0, atol=1e-6)


def test_only_target_layers_change_and_by_no_more_than_the_rank() -> None:
    start = model().double().eval()
    adapted, trained = learned(start, targets=TARGETS, rank=3)
    merged = adapted.export(trained)
    before, after = start.state_dict(), merged.state_dict()
    assert after.keys() == before.keys()
    assert str(merged) == str(start)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    linear = {f"{name}.weight" for name, module in start.named_modules() if isinstance(module, nn.Linear)}
    aside = {name for name in linear if ".mixer." in name or ".carry." in name}
    assert set(changed) == linear - aside
    for name in changed:
        values = torch.linalg.svdvals(after[name] - before[name])
        assert values[2] > 1e-4
        assert values[3] < 1e-12, name


def test_a_layer_computes_what_the_paper_says() -> None:
    start = model().double().eval()
    _, trained = learned(start, rank=4, alpha=6)
    layer, plain = (of.image.stages[1].blocks[0].attention.qkv for of in (trained, start))
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wanted = torch.zeros(2, 5, 96, dtype=torch.float64)
    for row in range(96):
        for rank in range(4):
            wanted[..., row] += 6 / 4 * up[row, rank] * (x * down[rank]).sum(-1)
    wanted += (x[..., None, :] * plain.weight).sum(-1) + plain.bias
    torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-12)


def test_the_count_is_that_of_both_factors() -> None:
    adapted = apply(model(), lora(rank=5, targets=["image_attention", "text_mlp"]))
    image_blocks, width = 3, 32
    attention = image_blocks * 5 * ((width + 3 * width) + (width + width))
    text = 1 * 5 * 2 * (width + 4 * width)
    assert adapted.trained == {"lora": attention + text}
    assert str(adapted) == f"{attention + text:,} trained parameters (lora {attention + text:,})"


def test_a_copy_is_exported_without_touching_the_model_that_trains() -> None:
    start = model().eval()
    adapted, trained = learned(start)
    before = copy.deepcopy(trained.state_dict())
    plain = adapted.exported(trained)
    assert plain.state_dict().keys() == start.state_dict().keys()
    assert before.keys() == trained.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.state_dict().items())
    assert adapted.learned(trained) & {name for name, _ in start.named_parameters()} == {
        f"image.stages.{stage}.blocks.0.attention.{layer}.{kind}"
        for stage in range(3)
        for layer in ("qkv", "out")
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("name", BACKBONES.names)
def test_every_backbone_takes_adapters_and_is_plain_again(name: str) -> None:
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    start = made(name).eval()
    adapted, trained = learned(
        start, targets=["image_attention", "image_mlp", "text_attention", "projectors"]
    )
    with torch.no_grad():
        before, ends = start.encode_image(pixels).feature, trained.encode_image(pixels).feature
        assert (ends - before).abs().max() > 1e-3
        merged = adapted.export(trained)
        torch.testing.assert_close(merged.encode_image(pixels).feature, ends, rtol=0, atol=1e-6)
    assert str(merged) == str(start)
    assert merged.state_dict().keys() == start.state_dict().keys()


# torch's own tracer asks what it should not, where a graph goes on after a break
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_step_is_that_of_the_plain_code() -> None:
    """Dropout breaks the graph, and nothing else: its draws are the same."""
    gradients = []
    for compiled in (False, True):
        trained = model(drop_path=0.0)
        apply(trained, lora(dropout=0.3))
        trained.train()
        if compiled:
            trained.image.compile(dynamic=False, backend="eager")
        place_rows(row_dropouts(trained.image), Rows(seed=4, count=3))
        pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        noise = trained.draw_noise(pixels, torch.Generator().manual_seed(1))
        trained.encode_image(pixels, noise=noise).feature.square().sum().backward()
        gradients.append([parameter.grad for parameter in trained.parameters() if parameter.requires_grad])
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in gradients[0])
    for plain, compiled_too in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled_too, plain, rtol=0, atol=1e-6)
