from __future__ import annotations

import pytest
import torch

from regroup.adaptation.parts import set_trainable
from regroup.errors import RegroupError
from regroup.model import GroupViT, GroupViTConfig

from .conftest import make_tokens

EXPECTED = {
    "nothing": (),
    "both_gbs": ("image.stages.0.grouping.", "image.stages.1.grouping."),
    "gb2": ("image.stages.1.grouping.",),
    "both_gbs+image_projector": ("image.stages.0.grouping.", "image.stages.1.grouping.", "image_projector."),
    "gb2+image_projector": ("image.stages.1.grouping.", "image_projector."),
    "both_gbs+projectors": (
        "image.stages.0.grouping.",
        "image.stages.1.grouping.",
        "image_projector.",
        "text_projector.",
    ),
    "gb2+projectors": ("image.stages.1.grouping.", "image_projector.", "text_projector."),
    "image_projector": ("image_projector.",),
    "projectors": ("image_projector.", "text_projector."),
    "image_tower": ("image.",),
    "all": ("",),
}


@pytest.mark.parametrize("part", EXPECTED)
def test_parts(small: GroupViT, part: str) -> None:
    count = set_trainable(small, part)
    trained = {name: p.numel() for name, p in small.named_parameters() if p.requires_grad}
    wanted = {name for name, _ in small.named_parameters() if name.startswith(EXPECTED[part] or ("none",))}
    assert set(trained) == wanted
    assert count == sum(trained.values())


def test_real_sizes() -> None:
    """7.1 M parameters in the grouping blocks of the published model; group tokens are not among them."""
    model = GroupViT(GroupViTConfig(), draw=False)
    assert set_trainable(model, "both_gbs") == 7_129_032
    assert not model.image.stages[0].group_tokens.requires_grad


def test_unknown_part_names_the_others(small: GroupViT) -> None:
    with pytest.raises(RegroupError, match=r"no part 'gb3'.*both_gbs, gb2"):
        set_trainable(small, "gb3")


def test_frozen_parts_build_no_graph(small: GroupViT, pixels: torch.Tensor) -> None:
    small.train()
    set_trainable(small, "gb2")
    seen = {}
    for name in ("image.stages.0.blocks.1", "image.stages.0.grouping", "image.stages.1.blocks.0"):
        small.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: seen.update({name: out[0].requires_grad})
        )
    feature = small.encode_image(pixels).feature
    assert feature.requires_grad
    assert seen == dict.fromkeys(seen, False)
    assert len(seen) == 3
    assert not small.encode_text(make_tokens([[300], [301]])).requires_grad


def test_only_the_trained_part_gets_gradients(small: GroupViT, pixels: torch.Tensor) -> None:
    small.train()
    set_trainable(small, "both_gbs")
    small.encode_image(pixels).feature.square().sum().backward()
    for name, parameter in small.named_parameters():
        assert (parameter.grad is not None) == (".grouping." in name), name


def test_frozen_batch_norm_uses_the_batch_as_the_study_did(small: GroupViT, pixels: torch.Tensor) -> None:
    small.train()
    set_trainable(small, "both_gbs")
    before = small.image_projector.norm.running_mean.clone()
    small.encode_image(pixels)
    assert not torch.equal(small.image_projector.norm.running_mean, before)


def test_frozen_batch_norm_can_keep_its_statistics(small: GroupViT, pixels: torch.Tensor) -> None:
    set_trainable(small, "both_gbs+image_projector", held_statistics=True)
    small.train()
    text, image = small.text_projector.norm, small.image_projector.norm
    before = text.running_mean.clone()
    tokens = make_tokens([[300], [301]])
    features = small.encode_text(tokens)
    assert torch.equal(text.running_mean, before)
    torch.testing.assert_close(features, small.eval().encode_text(tokens))
    small.train()
    assert image.training
    set_trainable(small, "all", held_statistics=True)
    assert text.training
