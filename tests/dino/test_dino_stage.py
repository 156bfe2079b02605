"""The features of a profile: trained on its shards, or read from DINO's file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from regroup.captions.settings import ShardsParams
from regroup.captions.shards import build_shards
from regroup.dino.make import make_features
from regroup.dino.settings import DinoParams, StandInParams
from regroup.dino.stand_in import train_stand_in
from regroup.errors import RegroupError
from regroup.model.dino import DinoKeys
from regroup.sources.make import make_source
from regroup.sources.manifest import raw_root
from regroup.sources.settings import WorldParams

SMALL = StandInParams(width=24, heads=2, image_size=32, batch=8, steps=60, prototypes=32)


def halves(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images [count, 3, 32, 32] of two of six textures side by side; which one a patch shows [count, 16]."""
    generator = torch.Generator().manual_seed(seed)
    textures = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(99)).repeat(1, 1, 4, 4)
    chosen = torch.stack([torch.randperm(6, generator=generator)[:2] for _ in range(count)])
    images = textures[chosen[:, 0]].clone()
    images[..., 16:] = textures[chosen[:, 1], :, :, 16:]
    left = torch.arange(16) % 4 < 2
    shown = torch.where(left, chosen[:, :1], chosen[:, 1:])
    return images + 0.3 * torch.randn(images.shape, generator=generator), shown


def crops(seed: int) -> Iterator[torch.Tensor]:
    while True:
        yield halves(8, seed)[0]
        seed += 1


def contrast(features: DinoKeys) -> float:
    """How much more alike patches of one texture are than patches of two, over images never trained on."""
    images, shown = halves(40, seed=10_000)
    unit = torch.nn.functional.normalize(features(images, (4, 4)).flatten(0, 1), dim=-1)
    affinity, same = unit @ unit.T, shown.flatten()[:, None] == shown.flatten()
    return float(affinity[same].mean() - affinity[~same].mean())


def test_the_stand_in_learns_without_labels() -> None:
    rows = []
    trained = train_stand_in(crops(0), SMALL, observe=lambda step, row: rows.append((step, row["loss"])))
    untrained = train_stand_in(crops(0), SMALL.model_copy(update={"steps": 0}))
    assert contrast(trained) > contrast(untrained) + 0.05
    assert [step for step, _ in rows] == [20, 40, 60]
    assert trained.config.kind == "stand-in"
    assert not any(parameter.requires_grad for parameter in trained.parameters())


def test_only_the_seed_and_the_crops_decide() -> None:
    short = SMALL.model_copy(update={"steps": 3})
    torch.manual_seed(1)
    first = train_stand_in(crops(0), short).state_dict()
    torch.manual_seed(2)
    again = train_stand_in(crops(0), short).state_dict()
    other = train_stand_in(crops(0), short.model_copy(update={"seed": 12})).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["key.weight"], other["key.weight"])


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    make_source("coco", "mini", tmp_path / "raw", world=WorldParams(coco_train=8, coco_val=1))
    build_shards(raw_root(tmp_path / "raw"), tmp_path / "shards", ShardsParams(images_per_shard=4))
    return tmp_path / "shards"


def test_a_stand_in_from_shards(shards: Path) -> None:
    """More steps than the shards have batches."""
    params = DinoParams(kind="stand-in", path=Path("x"), stand_in=SMALL.model_copy(update={"steps": 5}))
    features = make_features(params, shards, observe=lambda step, row: None)
    assert features(torch.zeros(1, 3, 64, 32), (8, 4)).shape == (1, 32, 24)


def test_a_file_that_is_missing(tmp_path: Path) -> None:
    params = DinoParams(kind="file", path=tmp_path / "dino.pth")
    with pytest.raises(RegroupError, match=r"dino\.pth: no such file"):
        make_features(params, tmp_path, observe=lambda step, row: None)


@pytest.mark.parametrize("change", [{"heads": 5}, {"image_size": 33}, {"step": 3}])
def test_sizes_that_do_not_fit(change: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        StandInParams(**change)
