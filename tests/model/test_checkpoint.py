from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from regroup.backbones import load_checkpoint
from regroup.errors import RegroupError
from regroup.model import GroupViT, GroupViTConfig, save_checkpoint
from regroup.model.checkpoint import export_state, save_hugging_face, save_original
from regroup.model.names import HUGGING_FACE, ORIGINAL

from .conftest import SMALL, make_tokens, scramble


def same(model: GroupViT, other: GroupViT) -> bool:
    first, second = model.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def full_vocabulary() -> GroupViT:
    model = GroupViT(replace(SMALL, text=replace(SMALL.text, vocabulary=49408)))
    scramble(model)
    return model.eval()


def test_the_one_loader_is_found_under_its_old_name_too() -> None:
    from regroup.model import load_checkpoint as old

    assert old is load_checkpoint


def test_our_folder(small: GroupViT, tmp_path: Path) -> None:
    save_checkpoint(small, tmp_path / "a")
    save_checkpoint(small, tmp_path / "b")
    loaded = load_checkpoint(tmp_path / "a")
    assert loaded.config == small.config
    assert same(loaded, small)
    assert not loaded.training
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["config.json", "model.safetensors"]


def test_original_file_and_back(small: GroupViT, tmp_path: Path) -> None:
    """With a compact vocabulary and heads that only the stored configuration knows."""
    save_original(small, tmp_path / "a.pth")
    save_original(small, tmp_path / "b.pth")
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()
    loaded = load_checkpoint(tmp_path / "a.pth")
    assert loaded.config == small.config
    assert same(loaded, small)


def test_original_names_and_shapes(small: GroupViT) -> None:
    """Literal names of the published `.pth`, so that a slip in the table cannot hide in a round trip."""
    state = export_state(small, ORIGINAL)
    shapes = {
        "logit_scale": (),
        "multi_label_logit_scale": (),
        "img_encoder.pos_embed": (1, 16, 24),
        "img_encoder.patch_embed.proj.weight": (24, 3, 8, 8),
        "img_encoder.patch_embed.norm.bias": (24,),
        "img_encoder.layers.1.group_token": (1, 3, 24),
        "img_encoder.layers.0.blocks.1.norm2.weight": (24,),
        "img_encoder.layers.0.blocks.1.attn.qkv.weight": (72, 24),
        "img_encoder.layers.2.blocks.0.attn.proj.bias": (24,),
        "img_encoder.layers.2.blocks.0.mlp.fc1.weight": (96, 24),
        "img_encoder.layers.0.downsample.norm_tokens.weight": (24,),
        "img_encoder.layers.0.downsample.mlp_inter.fc1.weight": (12, 6),
        "img_encoder.layers.0.downsample.mlp_inter.fc2.weight": (6, 12),
        "img_encoder.layers.0.downsample.norm_post_tokens.weight": (24,),
        "img_encoder.layers.0.downsample.norm_x.weight": (24,),
        "img_encoder.layers.0.downsample.pre_assign_attn.attn.q_proj.weight": (24, 24),
        "img_encoder.layers.0.downsample.pre_assign_attn.attn.proj.weight": (24, 24),
        "img_encoder.layers.0.downsample.pre_assign_attn.norm2.weight": (24,),
        "img_encoder.layers.0.downsample.pre_assign_attn.mlp.fc1.weight": (96, 24),
        "img_encoder.layers.0.downsample.pre_assign_attn.norm_post.weight": (24,),
        "img_encoder.layers.0.downsample.assign.v_proj.bias": (24,),
        "img_encoder.layers.0.downsample.assign.proj.weight": (24, 24),
        "img_encoder.layers.0.downsample.norm_new_x.weight": (24,),
        "img_encoder.layers.0.downsample.mlp_channels.fc2.weight": (24, 96),
        "img_encoder.layers.1.group_projector.0.weight": (24,),
        "img_encoder.layers.1.group_projector.1.fc1.weight": (12, 6),
        "img_encoder.norm.weight": (24,),
        "text_encoder.token_embedding.weight": (64, 16),
        "text_encoder.positional_embedding": (77, 16),
        "text_encoder.transformer.resblocks.1.ln_1.weight": (16,),
        "text_encoder.transformer.resblocks.1.attn.in_proj_weight": (48, 16),
        "text_encoder.transformer.resblocks.1.attn.in_proj_bias": (48,),
        "text_encoder.transformer.resblocks.1.attn.out_proj.weight": (16, 16),
        "text_encoder.transformer.resblocks.1.mlp.c_fc.weight": (64, 16),
        "text_encoder.transformer.resblocks.1.mlp.c_proj.bias": (16,),
        "text_encoder.ln_final.weight": (16,),
        "img_projector.linear_hidden.0.weight": (32, 24, 1),
        "img_projector.linear_hidden.1.running_var": (32,),
        "img_projector.linear_hidden.1.num_batches_tracked": (),
        "img_projector.linear_out.weight": (12, 32, 1),
        "text_projector.linear_out.bias": (12,),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert len(state) == len(small.state_dict())


def test_hugging_face_reads_what_we_write(full_vocabulary: GroupViT, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the reader under test")
    save_hugging_face(full_vocabulary, tmp_path)
    theirs, report = transformers.GroupViTModel.from_pretrained(tmp_path, output_loading_info=True)
    assert {name: value for name, value in report.items() if value} == {}
    pixels, tokens = torch.randn(2, 3, 32, 32), make_tokens([[5, 6], []])
    with torch.no_grad():
        features = theirs.eval().get_image_features(pixels).pooler_output
        texts = theirs.get_text_features(tokens).pooler_output
        torch.testing.assert_close(
            full_vocabulary.encode_image(pixels).feature, features, atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(full_vocabulary.encode_text(tokens), texts, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["model.safetensors", "pytorch_model.bin"])
def test_hugging_face_files(full_vocabulary: GroupViT, tmp_path: Path, kind: str) -> None:
    """Old files carry `position_ids`; none carries the multi-label scale, which starts anew."""
    save_hugging_face(full_vocabulary, tmp_path)
    if kind == "pytorch_model.bin":
        state = load_file(tmp_path / "model.safetensors")
        (tmp_path / "model.safetensors").unlink()
        state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
        torch.save(state, tmp_path / kind)
    for path in (tmp_path, tmp_path / kind):
        loaded = load_checkpoint(path)
        assert loaded.config == full_vocabulary.config
        expected = full_vocabulary.state_dict()
        expected["multi_label_logit_scale"] = torch.tensor(1 / 0.07).log()
        assert all(torch.allclose(tensor, expected[name]) for name, tensor in loaded.state_dict().items())


def test_all_layouts_lead_to_each_other(full_vocabulary: GroupViT, tmp_path: Path) -> None:
    with torch.no_grad():
        full_vocabulary.multi_label_logit_scale.fill_(torch.tensor(1 / 0.07).log())
    save_original(full_vocabulary, tmp_path / "original.pth")
    save_hugging_face(load_checkpoint(tmp_path / "original.pth"), tmp_path / "hf")
    save_checkpoint(load_checkpoint(tmp_path / "hf"), tmp_path / "ours")
    assert same(load_checkpoint(tmp_path / "ours"), full_vocabulary)


def test_shape_is_inferred_from_published_tensors() -> None:
    """A bare `.pth` of the published sizes needs no configuration at all."""
    from regroup.model.infer import infer_config

    model = GroupViT(GroupViTConfig(), draw=False)
    for layout in (ORIGINAL, HUGGING_FACE):
        assert infer_config(export_state(model, layout), layout, source="file") == GroupViTConfig()


def spoil(state: dict[str, torch.Tensor]) -> None:
    del state["image.norm.weight"]
    del state["text.positions"]
    state["text.extra"] = torch.zeros(1)
    state["image_projector.out.bias"] = torch.zeros(5)


def test_every_difference_is_listed(small: GroupViT, tmp_path: Path) -> None:
    save_checkpoint(small, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    spoil(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(RegroupError) as error:
        load_checkpoint(tmp_path)
    message = str(error.value)
    assert str(tmp_path) in message
    assert "2 missing: image.norm.weight, text.positions" in message
    assert "1 unexpected: text.extra" in message
    assert "1 misshapen: image_projector.out.bias is [5], expected [12]" in message


def test_original_file_with_a_missing_and_an_extra_tensor(small: GroupViT, tmp_path: Path) -> None:
    content: dict[str, Any] = {"model": export_state(small, ORIGINAL), "config": small.config.to_dict()}
    content["model"]["img_encoder.norm.gamma"] = content["model"].pop("img_encoder.norm.weight")
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(
        RegroupError, match=r"1 missing: img_encoder\.norm\.weight; 1 unexpected: img_encoder\.norm\.gamma"
    ):
        load_checkpoint(tmp_path / "x.pth")


def test_the_multi_label_scale_may_be_missing_from_an_original_file(small: GroupViT, tmp_path: Path) -> None:
    content: dict[str, Any] = {"model": export_state(small, ORIGINAL), "config": small.config.to_dict()}
    del content["model"]["multi_label_logit_scale"]
    torch.save(content, tmp_path / "x.pth")
    assert float(load_checkpoint(tmp_path / "x.pth").multi_label_logit_scale.detach()) == pytest.approx(
        2.6593, abs=1e-4
    )


def test_files_that_are_no_checkpoint(small: GroupViT, tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match="no such file"):
        load_checkpoint(tmp_path / "none.pth")
    with pytest.raises(RegroupError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(RegroupError, match="not a safetensors file"):
        load_checkpoint(tmp_path)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(RegroupError, match="none of the layouts of clip, groupvit"):
        load_checkpoint(tmp_path / "x.pth")
    torch.save([1, 2], tmp_path / "y.pth")
    with pytest.raises(RegroupError, match="holds a list, not a table of tensors"):
        load_checkpoint(tmp_path / "y.pth")
    save_checkpoint(small, tmp_path / "cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(RegroupError, match="not a safetensors file"):
        load_checkpoint(tmp_path / "cut")


def test_positions_are_resized_on_request(small: GroupViT, tmp_path: Path, pixels: torch.Tensor) -> None:
    save_checkpoint(small, tmp_path)
    larger = load_checkpoint(tmp_path, image_size=48)
    assert larger.config.image.image_size == 48
    assert larger.image.positions.shape == (36, 24)
    big = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(larger.encode_image(big).feature, small.encode_image(big).feature)
    assert same(load_checkpoint(tmp_path, image_size=32), small)
    with pytest.raises(RegroupError, match="not a multiple of the patch size 8"):
        load_checkpoint(tmp_path, image_size=50)
    save_checkpoint(larger, tmp_path / "larger")
    assert same(load_checkpoint(tmp_path / "larger"), larger)


def test_compact_vocabulary_has_no_hugging_face_form(small: GroupViT, tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match="compact"):
        save_hugging_face(small, tmp_path)


def command(*arguments: str) -> int:
    import argparse

    from regroup.commands.checkpoint import add_parser

    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    parsed = parser.parse_args(["checkpoint", *arguments])
    status: int = parsed.run(parsed)
    return status


def test_inspect_prints_what_it_found(
    small: GroupViT, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_original(small, tmp_path / "x.pth")
    assert command("inspect", str(tmp_path / "x.pth")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layout", "original"]
    total = sum(parameter.numel() for parameter in small.parameters())
    assert lines[-1].split() == ["trainable:", "all", f"{total:,}"]
    assert any("2 blocks -> 6 groups, 1 blocks -> 3 groups, 1 blocks" in line for line in lines)


def test_convert_writes_the_same_weights(small: GroupViT, tmp_path: Path) -> None:
    save_original(small, tmp_path / "x.pth")
    assert command("convert", str(tmp_path / "x.pth"), str(tmp_path / "ours")) == 0
    assert same(load_checkpoint(tmp_path / "ours"), small)
    assert command("convert", str(tmp_path / "ours"), str(tmp_path / "y.pth"), "--to", "original") == 0
    assert (tmp_path / "y.pth").read_bytes() == (tmp_path / "x.pth").read_bytes()
