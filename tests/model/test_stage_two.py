"""Patch features of another network as input of the second stage (section 5.14.2)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from regroup.adaptation.parts import count_part, set_trainable
from regroup.backbones import load_checkpoint
from regroup.commands.checkpoint import describe
from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.model import GroupViT, save_checkpoint
from regroup.model.checkpoint import CONFIG, save_original, with_stage_two
from regroup.model.config import DinoConfig
from regroup.model.dino import DinoKeys
from regroup.model.restage import restage, stages_for

from .conftest import SMALL, scramble

NETWORK = DinoConfig(image_size=16, patch_size=4, width=24, heads=2, hidden=20, layer=1)


def network(config: DinoConfig = NETWORK) -> DinoKeys:
    features = DinoKeys(config)
    with torch.no_grad():
        for parameter in features.parameters():
            parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    return features.eval()


@pytest.fixture
def features() -> DinoKeys:
    return network()


@pytest.fixture
def fed(small: GroupViT, features: DinoKeys) -> GroupViT:
    return with_stage_two(small, features)


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])
def test_the_model_feeds_itself(
    small: GroupViT, fed: GroupViT, features: DinoKeys, shape: tuple[int, int]
) -> None:
    """One feature for each of the image's patches, whatever the other network's own patches are."""
    pixels = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0))
    grid = (shape[0] // 8, shape[1] // 8)
    tokens = features(pixels, grid)
    assert tokens.shape == (2, grid[0] * grid[1], 24)
    expected = small.encode_image(pixels, return_attention=True, stage_two_tokens=tokens)
    found = fed.encode_image(pixels, return_attention=True)
    assert torch.equal(found.segment_features, expected.segment_features)
    assert torch.equal(found.attention, expected.attention)
    assert found.attention.shape == (2, 3, grid[0] * grid[1])
    torch.testing.assert_close(found.attention.sum(1), torch.ones(2, grid[0] * grid[1]))
    assert not torch.allclose(found.feature, small.encode_image(pixels).feature)


def test_the_checkpoint_carries_the_network(fed: GroupViT, tmp_path: Path, pixels: torch.Tensor) -> None:
    save_checkpoint(fed, tmp_path)
    assert read_json(tmp_path / CONFIG)["stage_two"]["patch_size"] == 4
    again = load_checkpoint(tmp_path)
    assert torch.equal(again.encode_image(pixels).feature, fed.encode_image(pixels).feature)
    assert "block 1 of a published ViT, patch 4" in describe(tmp_path)


def test_other_checkpoints_say_nothing_of_it(small: GroupViT, tmp_path: Path) -> None:
    save_checkpoint(small, tmp_path)
    assert "stage_two" not in read_json(tmp_path / CONFIG)


def test_training(fed: GroupViT, pixels: torch.Tensor) -> None:
    """Noise fits the features; the network and the grouping block that it replaces stay as they are."""
    fed.train()
    count = set_trainable(fed, "both_gbs")
    second = fed.image.stages[1].grouping
    assert count == count_part(fed, "both_gbs") == sum(p.numel() for p in second.parameters())
    fed.encode_image(pixels, generator=torch.Generator().manual_seed(0)).feature.square().sum().backward()
    for name, parameter in fed.named_parameters():
        assert (parameter.grad is not None) == name.startswith("image.stages.1.grouping."), name
    set_trainable(fed, "all")
    assert not any(parameter.requires_grad for parameter in fed.stage_two.parameters())
    assert fed.image.stages[0].blocks[0].norm1.weight.requires_grad


def test_it_stays_through_other_sizes_and_stages(fed: GroupViT, pixels: torch.Tensor) -> None:
    larger = fed.with_image_size(48)
    staged, _ = restage(fed, stages_for(fed.config.image.stages, 3))
    for model in (larger, staged):
        assert torch.equal(model.stage_two.key.weight, fed.stage_two.key.weight)
        assert model.encode_image(pixels, return_attention=True).attention.shape == (3, 3, 16)


def test_two_networks_one_after_the_other(fed: GroupViT) -> None:
    other = network(replace(NETWORK, layer=2))
    assert with_stage_two(fed, other).config.stage_two == other.config


def test_features_that_do_not_fit(small: GroupViT, fed: GroupViT, tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match="features of 16 channels do not fit tokens of 24"):
        with_stage_two(small, network(replace(NETWORK, width=16)))
    one = GroupViT(replace(SMALL, image=replace(SMALL.image, stages=stages_for(SMALL.image.stages, 1))))
    scramble(one)
    with pytest.raises(RegroupError, match="no second grouping block"):
        with_stage_two(one, network())
    with pytest.raises(RegroupError, match="original layout has no place"):
        save_original(fed, tmp_path / "x.pth")
