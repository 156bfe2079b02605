from __future__ import annotations

import pytest
import torch

from regroup.model import GroupViT, GroupViTConfig, ImageConfig, StageConfig, TextConfig
from regroup.model.checkpoint import export_state
from regroup.model.names import ORIGINAL

Table = dict[str, torch.Tensor]

SMALL = GroupViTConfig(
    ImageConfig(
        image_size=32,
        patch_size=8,
        width=24,
        heads=3,
        stages=(StageConfig(2, 6), StageConfig(1, 3), StageConfig(1)),
    ),
    TextConfig(vocabulary=64, width=16, depth=2, heads=2),
    projector_hidden=32,
    joint_width=12,
)


def scramble(model: torch.nn.Module, seed: int = 0) -> None:
    """Move every tensor away from its initial value, so that zeros and ones hide nothing."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.copy_(0.1 * torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))


@pytest.fixture
def small() -> GroupViT:
    model = GroupViT(SMALL, generator=torch.Generator().manual_seed(0))
    model.set_tokens(range(300, 340))
    scramble(model)
    return model.eval()


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def make_tokens(texts: list[list[int]], columns: int = 77) -> torch.Tensor:
    tokens = torch.zeros(len(texts), columns, dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text) + 2] = torch.tensor([49406, *text, 49407])
    return tokens


@pytest.fixture
def saved(small: GroupViT) -> Table:
    """The small model under the original's names; being compact, it needs our configuration."""
    return export_state(small, ORIGINAL)
