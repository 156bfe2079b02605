from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch

from regroup.errors import RegroupError
from regroup.io import read_json, write_json
from regroup.model.config import DinoConfig
from regroup.model.dino import features_width, load_dino, load_features, save_features
from regroup.model.weights import CONFIG, WEIGHTS

transformers = pytest.importorskip("transformers", reason="runs DINO's ViT")


@pytest.fixture(scope="module")
def vit() -> Any:
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=48,
        layer_norm_eps=1e-6,
        patch_size=8,
        image_size=32,
    )
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def file(vit: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights under the published names."""
    embeddings = vit.embeddings
    state = {
        "cls_token": embeddings.cls_token,
        "pos_embed": embeddings.position_embeddings,
        "patch_embed.proj.weight": embeddings.patch_embeddings.projection.weight,
        "patch_embed.proj.bias": embeddings.patch_embeddings.projection.bias,
    }
    for leaf in ("weight", "bias"):
        state[f"norm.{leaf}"] = getattr(vit.layernorm, leaf)
        for index, layer in enumerate(vit.layers):
            block, attention = f"blocks.{index}.", layer.attention
            state[f"{block}norm1.{leaf}"] = getattr(layer.layernorm_before, leaf)
            state[f"{block}norm2.{leaf}"] = getattr(layer.layernorm_after, leaf)
            parts = (attention.q_proj, attention.k_proj, attention.v_proj)
            state[f"{block}attn.qkv.{leaf}"] = torch.cat([getattr(part, leaf) for part in parts])
            state[f"{block}attn.proj.{leaf}"] = getattr(attention.o_proj, leaf)
            state[f"{block}mlp.fc1.{leaf}"] = getattr(layer.mlp.fc1, leaf)
            state[f"{block}mlp.fc2.{leaf}"] = getattr(layer.mlp.fc2, leaf)
    path = tmp_path_factory.mktemp("dino") / "dino.pth"
    torch.save({name: tensor.detach() for name, tensor in state.items()}, path)
    return path


@pytest.mark.parametrize("shape", [(32, 32), (24, 40)])
def test_keys_of_a_layer(vit: Any, file: Path, shape: tuple[int, int]) -> None:
    """Against the projection's output caught inside the whole network."""
    seen = []
    handle = vit.layers[2].attention.k_proj.register_forward_hook(lambda _m, _i, out: seen.append(out))
    pixels = torch.randn(2, 3, *shape)
    with torch.no_grad():
        vit(pixels, interpolate_pos_encoding=True)
    handle.remove()
    features = load_dino(file, layer=2)(pixels, (shape[0] // 8, shape[1] // 8))
    torch.testing.assert_close(features, seen[0][:, 1:], atol=1e-5, rtol=1e-4)
    assert not features.requires_grad


def test_a_finer_grid_is_averaged(file: Path) -> None:
    dino = load_dino(file, layer=2)
    pixels = torch.randn(1, 3, 32, 32)
    fine = dino(pixels, (4, 4)).view(1, 2, 2, 2, 2, 128)
    torch.testing.assert_close(dino(pixels, (2, 2)), fine.mean((2, 4)).view(1, 4, 128))


def test_bad_files(file: Path, tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match="features of block 9 do not exist"):
        load_dino(file)
    state = torch.load(file, weights_only=True)
    del state["blocks.1.norm2.bias"]
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(RegroupError, match=r"blocks\.1\.norm2\.bias is missing"):
        load_dino(tmp_path / "x.pth", layer=2)
    torch.save({"a": torch.zeros(1)}, tmp_path / "y.pth")
    with pytest.raises(RegroupError, match="not a DINO ViT"):
        load_dino(tmp_path / "y.pth")


def test_images_that_do_not_fit(file: Path) -> None:
    with pytest.raises(RegroupError, match="patches of 8 do not divide"):
        load_dino(file, layer=2)(torch.zeros(1, 3, 36, 32), (4, 4))


def test_features_survive_their_folder(file: Path, tmp_path: Path) -> None:
    features = load_dino(file, layer=2)
    for name in ("a", "b"):
        save_features(features, tmp_path / name)
    again = load_features(tmp_path / "a")
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(again(pixels, (4, 4)), features(pixels, (4, 4)))
    assert again.config == features.config
    assert again.width == features_width(tmp_path / "a") == 128
    assert not any(parameter.requires_grad for parameter in again.parameters())
    for name in (WEIGHTS, CONFIG):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_folders_that_hold_no_features(file: Path, tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match="no such file or folder"):
        load_features(tmp_path / "none")
    save_features(load_dino(file, layer=2), tmp_path)
    settings = read_json(tmp_path / CONFIG)
    write_json(tmp_path / CONFIG, {**settings, "layer": 3})
    with pytest.raises(RegroupError, match=r"does not fit a ViT: .*blocks\.2\.norm1\.weight"):
        load_features(tmp_path)
    write_json(tmp_path / CONFIG, {**settings, "layers": 2})
    with pytest.raises(RegroupError, match=r"config\.json: layers"):
        load_features(tmp_path)


@pytest.mark.parametrize("patch_size", [16, 8])
def test_published_sizes(patch_size: int, tmp_path: Path) -> None:
    """Names and shapes of DINO's ViT-S files, with what they hold beyond block 9."""
    shapes = {
        "cls_token": (1, 1, 384),
        "pos_embed": (1, 1 + (224 // patch_size) ** 2, 384),
        "patch_embed.proj.weight": (384, 3, patch_size, patch_size),
        "patch_embed.proj.bias": (384,),
        "norm.weight": (384,),
        "norm.bias": (384,),
    }
    for block in range(12):
        for name, (rows, columns) in {
            "attn.qkv": (1152, 384),
            "attn.proj": (384, 384),
            "mlp.fc1": (1536, 384),
            "mlp.fc2": (384, 1536),
        }.items():
            shapes[f"blocks.{block}.{name}.weight"] = (rows, columns)
            shapes[f"blocks.{block}.{name}.bias"] = (rows,)
        for name in ("norm1", "norm2"):
            shapes[f"blocks.{block}.{name}.weight"] = shapes[f"blocks.{block}.{name}.bias"] = (384,)
    path = tmp_path / f"dino_deitsmall{patch_size}_pretrain.pth"
    torch.save({name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}, path)
    features = load_dino(path)
    assert features.config == DinoConfig(patch_size=patch_size)
    assert len(features.blocks) == 9
    assert features(torch.zeros(1, 3, 224, 224), (14, 14)).shape == (1, 196, 384)


def test_a_whole_training_state_gives_the_teacher(file: Path, tmp_path: Path) -> None:
    """As DINO's code saves it: both networks, their heads, and objects of its own."""
    state = torch.load(file, weights_only=True)

    def network(scale: float) -> dict[str, torch.Tensor]:
        named = {f"module.backbone.{name}": scale * tensor for name, tensor in state.items()}
        return named | {"module.head.last_layer.weight": torch.zeros(2)}

    whole = {"student": network(2.0), "teacher": network(1.0), "args": argparse.Namespace(lr=1)}
    torch.save(whole, tmp_path / "x.pth")
    pixels = torch.randn(1, 3, 32, 32)
    found = load_dino(tmp_path / "x.pth", layer=2)(pixels, (4, 4))
    assert torch.equal(found, load_dino(file, layer=2)(pixels, (4, 4)))


def test_features_that_are_not_finite_are_refused(file: Path, tmp_path: Path) -> None:
    features = load_dino(file, layer=2)
    features.key.weight[0, 0] = float("nan")
    save_features(features, tmp_path)
    with pytest.raises(RegroupError, match=r"not finite .*key\.weight"):
        load_features(tmp_path)
