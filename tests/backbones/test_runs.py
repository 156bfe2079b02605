"""Runs that start from another backbone: what they train, and what they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from regroup.backbones.clip.config import ClipConfig, ClipImageConfig
from regroup.backbones.clip.network import Clip
from regroup.captions.tokens import tokenize
from regroup.checks_of_training import untrainable
from regroup.errors import RegroupError
from regroup.model import TextConfig, save_checkpoint
from regroup.params import Params
from regroup.resolved import read_run, write_resolved
from regroup.settings import parse, read_yaml
from regroup.training.checkpoint import start_model
from regroup.training.finetune import finetune
from regroup.training.settings import CheckpointParams
from regroup.training.step import TrainingStep
from regroup.variants import Variant
from tests.training.tiny import SETTINGS, make_corpus, opened

ROOT = Path(__file__).parents[2]


def clip() -> Clip:
    """A tiny CLIP, in the same state each time."""
    config = ClipConfig(
        ClipImageConfig(image_size=32, patch_size=8, width=32, heads=2, depth=2),
        TextConfig(vocabulary=600, width=32, depth=1, heads=2),
        joint_width=32,
    )
    model = Clip(config, generator=torch.Generator().manual_seed(1))
    words = ["person dog cat car bus boat grass sky sea road wall floor photo of the a large small art itap"]
    model.set_tokens(tokenize(words).flatten().tolist())
    return model


def variant(part: str, *objectives: str) -> Variant:
    return Variant.model_validate(
        {
            "title": "test",
            "epochs": 3,
            "batch": 16,
            "trainable": part,
            "labels": {"count": 2},
            "objectives": [{"name": name} for name in objectives],
        }
    )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("clip"))


@pytest.mark.parametrize(("part", "wanted"), [("image_tower", "image."), ("all", ""), ("projectors", "_pro")])
def test_contrastive_fine_tuning(corpus: Path, tmp_path: Path, part: str, wanted: str) -> None:
    """A few steps; where only the image tower learns, a whole run, whose loss falls."""
    chosen = variant(part, "contrastive")
    settings = SETTINGS.model_copy(update={"max_steps": None if part == "image_tower" else 2})
    model = clip()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    data, plan = opened(corpus, chosen, settings)
    curve = finetune(
        model, data, chosen, settings, plan, state=tmp_path / "s", inputs_digest="", progress=False
    )
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(wanted in name for name in changed)
    if part == "image_tower":
        assert curve[-1]["loss"] < curve[0]["loss"]


def test_segments_and_labels_of_patches_and_chunks_change_no_gradient(corpus: Path) -> None:
    """Objectives over segments take the patches; the image's feature and they come back from chunks."""
    chosen = variant("all", "contrastive", "noise_free", "label_entropy", "segment_entropy")
    found = []
    for chunks in (1, 3):
        settings = SETTINGS.model_copy(update={"chunks": chunks})
        data, _ = opened(corpus, chosen, settings)
        model = clip().double().train()
        step = TrainingStep(model, data, chosen, settings, image_size=32)
        step(next(data.batches(0)), torch.Generator().manual_seed(0))
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() == {name for name, _ in clip().named_parameters()}
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-9, msg=name)


def test_lora_reaches_the_dense_readout() -> None:
    """The readout takes a part of a layer; what stands in the layer's place counts all the same."""
    model = clip().eval()
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    class Doubled(nn.Module):
        def __init__(self, layer: nn.Module) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = 2 * self.layer(x)
            return out

    attention = model.image.blocks[-1].attention
    with torch.no_grad():
        attention.qkv.bias.normal_()
        plain = attention.values(pixels.new_ones(1, 2, 32)) - attention.out.bias
        attention.qkv = Doubled(attention.qkv)
        doubled = attention.values(pixels.new_ones(1, 2, 32)) - attention.out.bias
    torch.testing.assert_close(doubled, 2 * plain)


def test_what_the_checkpoint_is_must_be_said(tmp_path: Path) -> None:
    save_checkpoint(clip(), tmp_path)
    params = CheckpointParams(path=tmp_path, backbone="clip")
    assert isinstance(start_model(params, image_size=48), Clip)
    with pytest.raises(RegroupError, match="holds a `clip`; say `backbone: clip` beside its path"):
        start_model(CheckpointParams(path=tmp_path))
    fed = variant("all", "contrastive").model_copy(update={"grouping_blocks": 1})
    with pytest.raises(RegroupError, match="a backbone `clip` has no grouping blocks"):
        start_model(params, variant=fed)
    with pytest.raises(ValueError, match="clipp: no such backbone; did you mean `clip`"):
        CheckpointParams(path=tmp_path, backbone="clipp")
    with pytest.raises(ValueError, match="`kind: random` is for `backbone: groupvit`"):
        CheckpointParams.model_validate({"kind": "random", "path": "x", "backbone": "clip", "model": {}})


def profile(folder: Path) -> Params:
    """The default profile with the tiny CLIP as its other checkpoint."""
    save_checkpoint(clip(), folder)
    values = read_yaml(ROOT / "params.yaml")
    values["checkpoint"]["path"] = str(ROOT / "pretrain/groupvit-mini")
    values["checkpoints"] = {"clip": {"path": str(folder), "backbone": "clip"}}
    return parse(Params, values, Path("params.yaml"))


def test_a_variant_starts_from_the_checkpoint_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = profile(tmp_path / "clip")
    monkeypatch.chdir(tmp_path)
    variants = {
        "usual": variant("projectors", "contrastive"),
        "other": variant("projectors", "contrastive").model_copy(update={"checkpoint": "clip"}),
        "as-it-is": Variant(title="", trainable="nothing", checkpoint="clip"),
    }
    write_resolved(params, variants, params.layout)
    for name in ("other", "as-it-is"):
        assert read_run(params.layout.resolved(name)).checkpoint == params.checkpoints["clip"]
        assert '"backbone": "clip"' in params.layout.backbone(name).read_text()
    assert read_run(params.layout.resolved("usual")).checkpoint == params.checkpoint
    before = params.layout.resolved("usual").read_text()
    # other weights at the same place: only who starts from them changes
    changed = clip()
    with torch.no_grad():
        changed.logit_scale.add_(1)
    save_checkpoint(changed, tmp_path / "clip")
    written = write_resolved(params, variants, params.layout)
    assert written == [params.layout.resolved(name) for name in ("other", "as-it-is")]
    assert params.layout.resolved("usual").read_text() == before
    lost = {"lost": variants["other"].model_copy(update={"checkpoint": "clap"})}
    with pytest.raises(RegroupError, match=r"lost\.checkpoint: `checkpoints` of params\.yaml has no clap"):
        write_resolved(params, lost, params.layout)


def test_what_a_backbone_cannot_is_told_before_any_run(tmp_path: Path) -> None:
    params = profile(tmp_path / "clip")
    start = {"checkpoint": "clip"}
    variants = {
        "fine": variant("all", "contrastive").model_copy(update=start),
        "part": variant("both_gbs", "contrastive").model_copy(update=start),
        "blocks": variant("all", "contrastive").model_copy(update={**start, "grouping_blocks": 3}),
        "lost": variant("all", "contrastive").model_copy(update={"checkpoint": "clap"}),
    }
    faults = list(untrainable(variants, params, Path("params.yaml")))
    assert [fault.split(": ", 1)[1].split(":")[0] for fault in faults] == [
        "variants.part.trainable",
        "variants.blocks",
        "variants.lost.checkpoint",
    ]
    assert (
        "a clip has no both_gbs; it has all, image_projector, image_tower, nothing, projectors" in faults[0]
    )
