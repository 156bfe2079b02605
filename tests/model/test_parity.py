"""The model against Hugging Face's, an independent implementation, from the same random weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from regroup.adaptation.parts import set_trainable
from regroup.backbones import load_checkpoint
from regroup.model import GroupViT
from regroup.model.checkpoint import save_hugging_face

from .conftest import make_tokens, scramble

transformers = pytest.importorskip("transformers", reason="the oracle of the parity tests")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The published shape, 224 px, with random weights, in both implementations."""
    torch.manual_seed(0)
    theirs = transformers.GroupViTModel(transformers.GroupViTConfig()).eval()
    with torch.no_grad():
        for stage in theirs.vision_model.encoder.stages[:2]:
            stage.group_token.normal_(std=0.5)
        theirs.vision_model.embeddings.position_embeddings.normal_(std=0.5)
        for projection in (theirs.visual_projection, theirs.text_projection):
            projection[1].running_mean.normal_(std=0.1)
            projection[1].running_var.uniform_(0.5, 2)
    folder = tmp_path_factory.mktemp("hf")
    torch.save(theirs.state_dict(), folder / "pytorch_model.bin")
    pixels = torch.randn(2, 3, 224, 224)
    tokens = make_tokens([[1125, 539, 2368], [7] * 75, [], [40000, 3]])
    with torch.no_grad():
        vision = theirs.vision_model(pixels, output_attentions=True)
        segments = theirs.visual_projection(vision.last_hidden_state.flatten(0, 1)).view(2, 8, -1)
        expected = {
            "feature": theirs.get_image_features(pixels).pooler_output,
            "text": theirs.get_text_features(tokens).pooler_output,
            "segments": vision.last_hidden_state,
            "segment_features": segments,
            "attentions": vision.attentions,
        }
        ours = load_checkpoint(folder)
        features = ours.encode_image(pixels, return_attention=True)
        text = ours.encode_text(tokens)
    return SimpleNamespace(model=ours, features=features, text=text, expected=expected)


def close(ours: torch.Tensor, theirs: torch.Tensor, name: str) -> None:
    """Within 1e-5 everywhere; `pytest -s` prints how near."""
    assert ours.shape == theirs.shape
    difference = float((ours - theirs).detach().abs().max())
    print(f"\n{name}: largest difference {difference:.1e} of values up to {float(theirs.abs().max()):.1e}")
    assert difference <= 1e-5


def test_image_feature(pair: SimpleNamespace) -> None:
    close(pair.features.feature, pair.expected["feature"], "image feature")


def test_text_feature(pair: SimpleNamespace) -> None:
    close(pair.text, pair.expected["text"], "text feature")


def test_segments_and_their_projection(pair: SimpleNamespace) -> None:
    close(pair.features.segments, pair.expected["segments"], "segments")
    close(pair.features.segment_features, pair.expected["segment_features"], "projected segments")


def test_both_soft_assignments(pair: SimpleNamespace) -> None:
    assert [tuple(soft.shape) for soft in pair.features.soft] == [(2, 64, 196), (2, 8, 64)]
    for block, (ours, theirs) in enumerate(zip(pair.features.soft, pair.expected["attentions"], strict=True)):
        close(ours, theirs, f"soft assignment {block + 1}")


def test_both_hard_assignments(pair: SimpleNamespace) -> None:
    for ours, theirs in zip(pair.features.hard, pair.expected["attentions"], strict=True):
        assert torch.equal(ours.argmax(1), theirs.argmax(1))
        assert torch.equal(ours.sum(1), torch.ones_like(ours[:, 0]))


def test_size_of_the_published_model(pair: SimpleNamespace) -> None:
    assert round(sum(parameter.numel() for parameter in pair.model.parameters()) / 1e6, 1) == 55.7


def small_pair(model: GroupViT, folder: Path) -> Any:
    save_hugging_face(model, folder)
    return transformers.GroupViTModel.from_pretrained(folder).eval()


def test_gradients_of_the_grouping_blocks(tmp_path: Path) -> None:
    """Through straight-through assignment and both blocks; noise is off in evaluation mode."""
    from dataclasses import replace

    from .conftest import SMALL

    model = GroupViT(replace(SMALL, text=replace(SMALL.text, vocabulary=49408)))
    scramble(model)
    model.eval()
    theirs = small_pair(model, tmp_path)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(3, 12, generator=torch.Generator().manual_seed(1))
    set_trainable(model, "both_gbs")
    (model.encode_image(pixels).feature * weight).sum().backward()
    (theirs.get_image_features(pixels).pooler_output * weight).sum().backward()
    for stage, other in zip(model.image.stages, theirs.vision_model.encoder.stages, strict=True):
        if stage.grouping is None:
            continue
        for ours, reference in (
            (stage.grouping.assignment.query, other.downsample.assign.q_proj),
            (stage.grouping.assignment.key, other.downsample.assign.k_proj),
            (stage.grouping.assignment.value, other.downsample.assign.v_proj),
            (stage.grouping.cross_attention.key, other.downsample.pre_assign_attn.attn.k_proj),
            (stage.grouping.mixer.mlp.up, other.downsample.mlp_inter.fc1),
            (stage.grouping.channel_mlp.down, other.downsample.mlp_channels.fc2),
        ):
            assert float(reference.weight.grad.abs().max()) > 1e-4
            torch.testing.assert_close(ours.weight.grad, reference.weight.grad, atol=1e-5, rtol=1e-3)
