from __future__ import annotations

import pytest
import torch

from regroup.errors import RegroupError
from regroup.model import GroupViT, StageConfig
from regroup.model.restage import restage, stages_for

from .conftest import SMALL

STUDY = (StageConfig(6, 64), StageConfig(3, 8), StageConfig(3))


@pytest.mark.parametrize(
    ("blocks", "last", "expected"),
    [
        (1, None, [(6, 64), (6, 0)]),
        (2, None, [(6, 64), (3, 8), (3, 0)]),
        (3, None, [(4, 64), (2, 8), (3, 8), (3, 0)]),
        (3, 4, [(4, 64), (2, 8), (3, 4), (3, 0)]),
    ],
)
def test_stages_of_table_13(blocks: int, last: int | None, expected: list[tuple[int, int]]) -> None:
    stages = stages_for(STUDY, blocks, last_tokens=last)
    assert [(stage.depth, stage.group_tokens) for stage in stages] == expected


def sequence(model: GroupViT) -> list[torch.Tensor]:
    """A weight of every transformer block, in order."""
    return [block.mlp.up.weight for stage in model.image.stages for block in stage.blocks]


def test_one_grouping_block(small: GroupViT, pixels: torch.Tensor) -> None:
    stages = stages_for(SMALL.image.stages, 1)
    assert [(stage.depth, stage.group_tokens) for stage in stages] == [(2, 6), (2, 0)]
    model, report = restage(small, stages)
    assert all(torch.equal(a, b) for a, b in zip(sequence(model), sequence(small), strict=True))
    old = small.state_dict()
    assert all(
        torch.equal(tensor, old[name])
        for name, tensor in model.state_dict().items()
        if not name.startswith("image.stages.1.")
    )
    assert report.fresh == ()
    assert report.cut == ()
    assert all(name.startswith("image.stages.") for name in report.dropped)
    assert "image.stages.1.group_tokens" in report.dropped
    assert model.encode_image(pixels, return_attention=True).attention.shape == (3, 6, 16)


@pytest.mark.parametrize("tokens", [None, 2])
def test_three_grouping_blocks(small: GroupViT, pixels: torch.Tensor, tokens: int | None) -> None:
    stages = stages_for(SMALL.image.stages, 3, last_tokens=tokens)
    model, report = restage(small, stages, generator=torch.Generator().manual_seed(0))
    assert [(stage.depth, stage.group_tokens) for stage in stages] == [
        (1, 6),
        (1, 3),
        (1, tokens or 3),
        (1, 0),
    ]
    assert all(torch.equal(a, b) for a, b in zip(sequence(model), sequence(small), strict=True))
    new, old = model.state_dict(), small.state_dict()
    kept = tokens or 3
    second, third = "image.stages.1.", "image.stages.2."
    assert torch.equal(new[third + "group_tokens"], old[second + "group_tokens"][:kept])
    assert torch.equal(
        new[third + "grouping.mixer.mlp.up.weight"], old[second + "grouping.mixer.mlp.up.weight"][:, :kept]
    )
    assert torch.equal(
        new[third + "grouping.mixer.mlp.down.bias"], old[second + "grouping.mixer.mlp.down.bias"][:kept]
    )
    for part in ("assignment.key.weight", "cross_attention.value.bias", "norm_post.weight"):
        assert torch.equal(new[third + "grouping." + part], old[second + "grouping." + part])
        assert torch.equal(new[second + "grouping." + part], old[second + "grouping." + part])
    # the mixer between the second and the third tokens has no counterpart: it reads 3 tokens, not 6
    assert report.fresh == (third + "carry.1.mlp.up.weight",)
    assert bool(report.cut) == (tokens is not None)
    assert report.dropped == ()
    assert model.encode_image(pixels, return_attention=True).attention.shape == (3, kept, 16)
    again, _ = restage(small, stages, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(new[name], tensor) for name, tensor in again.state_dict().items())


def test_same_stages_change_nothing(small: GroupViT, pixels: torch.Tensor) -> None:
    model, _ = restage(small, SMALL.image.stages)
    assert torch.equal(model.encode_image(pixels).feature, small.encode_image(pixels).feature)


def test_impossible_requests(small: GroupViT) -> None:
    with pytest.raises(RegroupError, match="5 blocks in all, but the model has 4"):
        restage(small, (StageConfig(4, 6), StageConfig(1)))
    with pytest.raises(RegroupError, match="4 grouping blocks"):
        stages_for(STUDY, 4)
    with pytest.raises(RegroupError, match="1 to 8 exist"):
        stages_for(STUDY, 3, last_tokens=9)
    with pytest.raises(RegroupError, match="cannot be split"):
        stages_for((StageConfig(1, 6), StageConfig(1, 3), StageConfig(1)), 3)
