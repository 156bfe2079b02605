"""CLIP against `transformers.CLIPModel`, an independent implementation, and against plain float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from regroup.adaptation.parts import set_trainable
from regroup.backbones import load_checkpoint, read_checkpoint
from regroup.backbones.clip.config import ClipConfig
from regroup.backbones.clip.network import Clip
from regroup.captions.tokens import tokenize
from regroup.errors import RegroupError
from regroup.model import save_checkpoint

from .conftest import random_pixels, theirs, to_openai

TEXTS = ["a dog", "a photo of two boats on the sea", "", "grass"]


def close(ours: torch.Tensor, expected: torch.Tensor, name: str) -> None:
    """Within 1e-5 everywhere; `pytest -s` prints how near."""
    assert ours.shape == expected.shape
    ours, expected = ours.detach(), expected.detach()
    difference = float((ours - expected).abs().max())
    print(f"\n{name}: largest difference {difference:.1e} of values up to {float(expected.abs().max()):.1e}")
    assert difference <= 1e-5


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_parity_with_hugging_face(activation: str, tmp_path: Path) -> None:
    """Both features, also of images of other sizes, whose position embeddings are interpolated."""
    model = theirs(activation)
    model.save_pretrained(tmp_path)
    ours = load_checkpoint(tmp_path)
    assert isinstance(ours, Clip)
    assert ours.config.activation == activation
    tokens = torch.from_numpy(tokenize(TEXTS, context=ours.context))
    with torch.no_grad():
        close(ours.encode_text(tokens), model.get_text_features(tokens).pooler_output, "text feature")
        for size in ((32, 32), (48, 80)):
            clips, images = random_pixels(*size)
            expected = model.get_image_features(clips, interpolate_pos_encoding=True).pooler_output
            found = ours.encode_image(images)
            close(found.feature, expected, f"image feature at {size}")
            assert found.segment_features.shape == (2, size[0] * size[1] // 64, 24)
    assert ours.logit_scale.item() == model.logit_scale.item()


def test_openais_names_are_the_same_model(tmp_path: Path) -> None:
    """As a state dict of its own, in half precision as published, and inside a training checkpoint."""
    model = theirs()
    model.save_pretrained(tmp_path / "hf")
    expected = load_checkpoint(tmp_path / "hf")
    state = to_openai(model.state_dict())
    torch.save(state, tmp_path / "plain.pt")
    extra = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(16)}
    wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in (state | extra).items()}}
    torch.save({"epoch": 3, **wrapped}, tmp_path / "training.pth")
    save_file({name: tensor.half() for name, tensor in state.items()}, tmp_path / "half.safetensors")
    # heads have 64 channels there; of this small model, only the tensors can be compared
    for name in ("plain.pt", "training.pth"):
        read = read_checkpoint(tmp_path / name)
        assert read.title == "OpenAI"
        found = read.model()
        for ours, tensor in expected.state_dict().items():
            assert torch.equal(found.state_dict()[ours], tensor), ours
    assert found.config.image.heads == 1
    half = load_checkpoint(tmp_path / "half.safetensors").state_dict()
    for ours, tensor in expected.state_dict().items():
        assert torch.equal(half[ours], tensor.half().float() if tensor.is_floating_point() else tensor), ours


def plain_dense(state: dict[str, np.ndarray], pixels: np.ndarray, heads: int) -> np.ndarray:
    """MaskCLIP's readout of one image in float64, from Hugging Face's tensors: [L, C]."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return unit * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def mlp(x: np.ndarray, name: str) -> np.ndarray:
        hidden = linear(x, f"{name}.fc1")
        return linear(hidden / (1 + np.exp(-1.702 * hidden)), f"{name}.fc2")

    kernel = state["vision_model.embeddings.patch_embedding.weight"]
    side = kernel.shape[-1]
    rows, columns = pixels.shape[1] // side, pixels.shape[2] // side
    patches = (
        pixels.reshape(3, rows, side, columns, side).transpose(1, 3, 0, 2, 4).reshape(rows * columns, -1)
    )
    x = np.concatenate(
        [state["vision_model.embeddings.class_embedding"][None], patches @ kernel.reshape(len(kernel), -1).T]
    )
    x = norm(x + state["vision_model.embeddings.position_embedding.weight"], "vision_model.pre_layrnorm")
    layer = "vision_model.encoder.layers"
    for number in range(2):
        name = f"{layer}.{number}"
        y = norm(x, f"{name}.layer_norm1")
        q, k, v = (
            linear(y, f"{name}.self_attn.{part}_proj").reshape(len(y), heads, -1).transpose(1, 0, 2)
            for part in "qkv"
        )
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        x = x + linear(mixed.transpose(1, 0, 2).reshape(len(y), -1), f"{name}.self_attn.out_proj")
        x = x + mlp(norm(x, f"{name}.layer_norm2"), f"{name}.mlp")
    x = x[1:]  # no token looks at another any more
    values = linear(norm(x, f"{layer}.2.layer_norm1"), f"{layer}.2.self_attn.v_proj")
    x = x + linear(values, f"{layer}.2.self_attn.out_proj")
    x = x + mlp(norm(x, f"{layer}.2.layer_norm2"), f"{layer}.2.mlp")
    dense: np.ndarray = norm(x, "vision_model.post_layernorm") @ state["visual_projection.weight"].T
    return dense


def test_dense_readout_is_the_float64_computation(tmp_path: Path) -> None:
    model = theirs()
    model.save_pretrained(tmp_path)
    clips, images = random_pixels(32, 32)
    state = {
        name: tensor.double().numpy() for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    with torch.no_grad():
        found = load_checkpoint(tmp_path).encode_image(images, return_attention=True)
    for number in range(2):
        expected = plain_dense(state, clips[number].double().numpy(), heads=4)
        assert np.abs(found.segment_features[number].numpy() - expected).max() < 1e-5
    assert torch.equal(found.attention[1], torch.eye(16))
    assert found.attention.shape == (2, 16, 16)


@pytest.fixture
def small(tmp_path: Path) -> Clip:
    theirs().save_pretrained(tmp_path / "small")
    model = load_checkpoint(tmp_path / "small")
    assert isinstance(model, Clip)
    return model


def test_our_own_checkpoint_names_its_architecture(small: Clip, tmp_path: Path) -> None:
    save_checkpoint(small, tmp_path / "ours")
    again = load_checkpoint(tmp_path / "ours")
    assert isinstance(again, Clip)
    assert again.config == small.config
    for name, tensor in small.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert '"architecture": "clip"' in (tmp_path / "ours/config.json").read_text()


def test_another_training_size(small: Clip) -> None:
    larger = small.with_image_size(48)
    assert (larger.image_size, small.image_size) == (48, 32)
    assert torch.equal(larger.image.positions[0], small.image.positions[0])
    _, images = random_pixels(48, 48)
    with torch.no_grad():
        close(
            larger.encode_image(images).feature, small.encode_image(images).feature, "resized once or at use"
        )
    with pytest.raises(RegroupError, match="image_size: 50 is not a multiple of the patch size 8"):
        small.with_image_size(50)


def test_parts(small: Clip) -> None:
    for part, prefixes in {
        "image_projector": ["image_projector."],
        "projectors": ["image_projector.", "text_projector."],
        "image_tower": ["image."],
        "all": [""],
    }.items():
        set_trainable(small, part)
        trained = {name for name, weight in small.named_parameters() if weight.requires_grad}
        every = [name for name, _ in small.named_parameters()]
        assert trained == {name for name in every if name.startswith(tuple(prefixes))}
    with pytest.raises(
        RegroupError, match="backbone `clip` has no part `both_gbs`; it has nothing, image_pro"
    ):
        set_trainable(small, "both_gbs")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"visual.ln_pre.weight": None}, "1 missing: image.norm_first.weight"),
        ({"visual.odd": torch.ones(2)}, "1 unexpected: visual.odd"),
        ({"visual.proj": torch.ones(24, 64)}, r"image_projector.weight is \[64, 24\], expected \["),
        ({"visual.positional_embedding": torch.ones(0, 64)}, "no CLIP follows from its tensors"),
        ({"positional_embedding": None}, "text.positions is missing, so the model's sizes are unknown"),
        ({"logit_scale": torch.tensor(torch.nan)}, "not finite"),
    ],
)
def test_a_damaged_file_says_what_is_wrong(
    change: dict[str, torch.Tensor | None], complaint: str, tmp_path: Path
) -> None:
    state = {**to_openai(theirs().state_dict()), **change}
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "x.pt")
    with pytest.raises(RegroupError, match=complaint):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("activation", ['"relu"', '["relu"]'])
def test_an_activation_that_no_clip_has(tmp_path: Path, activation: str) -> None:
    theirs().save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text().replace('"quick_gelu"', activation)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(
        RegroupError, match=r"config\.json: hidden_act: .*relu.*: both towers must have quick_gelu"
    ):
        load_checkpoint(tmp_path)


def test_sizes_that_contradict_each_other() -> None:
    good = ClipConfig().to_dict()
    assert ClipConfig.from_dict(good) == ClipConfig()
    with pytest.raises(RegroupError, match=r"image.*768 is not a multiple of the 7 heads"):
        ClipConfig.from_dict({**good, "image": {**good["image"], "heads": 7}})
    with pytest.raises(RegroupError, match="architecture: groupvit is not clip"):
        ClipConfig.from_dict({**good, "architecture": "groupvit"})
