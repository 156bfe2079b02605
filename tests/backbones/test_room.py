"""Which backbone a checkpoint is of."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from regroup.backbones import ROOM, config_from, load_checkpoint, make
from regroup.errors import RegroupError
from regroup.model import Backbone, GroupViT, save_checkpoint

ROOT = Path(__file__).parents[2]
GROUPVIT = ROOT / "pretrain/groupvit-mini"


def test_a_checkpoint_from_before_the_key_is_a_groupvit(tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(GROUPVIT, older)
    values = json.loads((older / "config.json").read_text())
    del values["architecture"]
    (older / "config.json").write_text(json.dumps(values))
    model = load_checkpoint(older)
    assert isinstance(model, GroupViT)
    save_checkpoint(model, tmp_path / "newer")
    assert json.loads((tmp_path / "newer/config.json").read_text())["architecture"] == "groupvit"
    again = load_checkpoint(tmp_path / "newer")
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("clipp", r"config\.json: architecture: clipp: no such backbone; did you mean `clip`\?"),
        ("clip", "none of the layouts of clip"),
        (3, "architecture: 3 is no name of a backbone"),
    ],
)
def test_a_wrong_architecture(value: object, complaint: str, tmp_path: Path) -> None:
    save_checkpoint(load_checkpoint(GROUPVIT), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architecture": value}))
    with pytest.raises(RegroupError, match=complaint):
        load_checkpoint(tmp_path)


def test_a_file_of_no_backbone(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(RegroupError, match="none of the layouts of clip, groupvit; first names: weight"):
        load_checkpoint(tmp_path / "x.pth")


SIZES = {
    "clip": {
        "image": {"image_size": 32, "patch_size": 8, "width": 32, "heads": 2, "depth": 2},
        "text": {"vocabulary": 600, "context": 77, "width": 32, "depth": 1, "heads": 2},
        "joint_width": 16,
        "activation": "gelu",
    },
    "groupvit": {
        "image": {
            "image_size": 32,
            "patch_size": 8,
            "width": 32,
            "heads": 2,
            "mlp_ratio": 4.0,
            "stages": [
                {"depth": 1, "group_tokens": 4},
                {"depth": 1, "group_tokens": 3},
                {"depth": 1, "group_tokens": 0},
            ],
            "drop_path": 0.1,
            "assign_eps": 1.0,
        },
        "text": {"vocabulary": 600, "context": 77, "width": 32, "depth": 1, "heads": 2},
        "projector_hidden": 32,
        "joint_width": 16,
    },
}


def made(name: str) -> Backbone:
    config = config_from({"architecture": name, **SIZES[name]}, source="test")
    return make(config, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ROOM.names)
def test_every_backbone_keeps_the_interface(name: str) -> None:
    """Both halves of the forward are the whole; shapes and draws are as promised."""
    model = made(name).train()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), made(name).parameters(), strict=True))
    pixels = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    rows, columns = model.patch_grid(pixels)
    noise = model.draw_noise(pixels, torch.Generator().manual_seed(2))
    out = model.run_image_tower(pixels, noise, return_attention=True)
    halves = model.project_image(out)
    again = made(name).train()
    draws = torch.Generator().manual_seed(2)
    whole = again.encode_image(pixels, return_attention=True, generator=draws)
    assert torch.equal(halves.feature, whole.feature)
    assert torch.equal(halves.segment_features, whole.segment_features)
    assert whole.feature.shape == (2, 16)
    assert whole.segments.shape == (2, whole.segment_features.shape[1], model.width)
    assert whole.attention.shape == (2, whole.segments.shape[1], rows * columns)
    torch.testing.assert_close(whole.attention.sum(1), torch.ones(2, rows * columns))
    assert whole.patches is not None
    assert whole.patches.shape == (2, rows * columns, model.width)
    tokens = torch.zeros(2, 5, dtype=torch.int64)
    tokens[:, 0], tokens[:, 2] = 49406, 49407
    assert model.encode_text(tokens).shape == (2, 16)
    parts = model.parts()
    assert {"nothing", "image_projector", "projectors", "image_tower", "all"} <= parts.keys()
    assert parts.keys() == model.config.parts
    assert not parts["nothing"]
    assert {id(weight) for some in parts.values() for weight in some} == {id(w) for w in model.parameters()}
    whole.feature.square().sum().backward()
    reached = {part: [weight.grad is not None for weight in some] for part, some in again.parts().items()}
    assert all(reached["image_projector"])
    assert any(reached["image_tower"])
    assert not all(reached["all"]), "no image moves the text tower"
