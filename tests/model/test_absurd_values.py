"""Weights and configurations that no model has."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from regroup.errors import RegroupError
from regroup.io import write_json
from regroup.model import GroupViT, save_checkpoint
from regroup.model.checkpoint import export_state
from regroup.model.names import ORIGINAL

from .conftest import SMALL, Table
from .loading import load_checkpoint


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, small: GroupViT, tmp_path: Path) -> None:
    with torch.no_grad():
        small.image.norm.weight[3] = value
    save_checkpoint(small, tmp_path / "ours")
    torch.save(export_state(small, ORIGINAL), tmp_path / "x.pth")
    with pytest.raises(
        RegroupError, match=r"ours/model\.safetensors: weights are not finite.*image\.norm\.weight"
    ):
        load_checkpoint(tmp_path / "ours")
    with pytest.raises(RegroupError, match="not finite"):
        load_checkpoint(tmp_path / "x.pth", config=SMALL)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("img_encoder.norm.weight", lambda t: t.double() * 1e300, "not finite"),  # finite until it is float32
        ("img_projector.linear_hidden.1.running_var", torch.neg, "make no sense"),
        ("logit_scale", lambda t: t + 500, "make no sense"),
        ("text_encoder.token_index", lambda t: t + 5000, "make no sense"),
        ("img_encoder.norm.weight", lambda t: (t * 10).to(torch.int8), "holds torch.int8"),
    ],
)
def test_finite_weights_that_no_model_has(
    name: str, change: Callable[[torch.Tensor], torch.Tensor], said: str, saved: Table, tmp_path: Path
) -> None:
    torch.save(saved | {name: change(saved[name])}, tmp_path / "x.pth")
    with pytest.raises(RegroupError, match=said):
        load_checkpoint(tmp_path / "x.pth", config=SMALL)


def changed(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    *path, last = key.split(".")
    inner: Any = config
    for part in path:
        inner = inner[int(part) if part.isdigit() else part]
    inner[last] = value
    return config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("image.stages.0.depth", 10**9),
        ("image.stages.0.depth", -1),
        ("image.mlp_ratio", float("nan")),
        ("image.mlp_ratio", float("inf")),
        ("image.assign_eps", float("inf")),
        ("image.width", 10**400),
        ("image.image_size", 8 * 10**9),
        ("text.depth", 10**9),
        ("text.context", 10**12),
        ("projector_hidden", 10**12),
        ("projector_hidden", 200_000),  # in bounds, but not what the tensors are
        ("joint_width", 0),
        ("image.stages", [{"depth": 1, "group_tokens": 1}] * 1000),
        ("\x1b[31m", 1),
    ],
)
def test_absurd_configurations_take_no_memory(
    key: str, value: Any, small: GroupViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    save_checkpoint(small, tmp_path)
    config = changed(json.loads((tmp_path / "config.json").read_text()), key, value)
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(GroupViT, "allocate", lambda self: pytest.fail("memory was taken"))
    started = time.perf_counter()
    with pytest.raises(RegroupError) as error:
        load_checkpoint(tmp_path)
    assert time.perf_counter() - started < 5
    assert str(tmp_path) in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("content", ["[]", "3", "{", "\xff", '{"image": {}}', ""])
def test_broken_configurations(content: str, small: GroupViT, tmp_path: Path) -> None:
    save_checkpoint(small, tmp_path)
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(RegroupError, match=r"config\.json"):
        load_checkpoint(tmp_path)


def test_a_key_that_is_missing_is_no_default(small: GroupViT, tmp_path: Path) -> None:
    """Tensors do not show the number of heads: with the default, all numbers would be others."""
    import json

    save_checkpoint(small, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["image"]["heads"]
    write_json(tmp_path / "config.json", config)
    with pytest.raises(RegroupError, match=r"config\.json: image\.heads: this key is missing"):
        load_checkpoint(tmp_path)
