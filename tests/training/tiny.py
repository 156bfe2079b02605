"""A small drawn corpus, a tiny model and a short run, for the tests of training."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from regroup.captions.labels import extract_labels
from regroup.captions.settings import NounsParams, ShardsParams
from regroup.captions.shards import build_shards
from regroup.captions.tokens import tokenize
from regroup.model import GroupViT, GroupViTConfig, ImageConfig, StageConfig, TextConfig
from regroup.sources.make import make_source
from regroup.sources.manifest import raw_root
from regroup.sources.settings import WorldParams
from regroup.training.data import CaptionData
from regroup.training.finetune import finetune
from regroup.training.plan import Plan
from regroup.training.settings import FinetuneParams, OptimiserParams
from regroup.training.state import TrainingState, load_state
from regroup.variants import Variant

CONFIG = GroupViTConfig(
    image=ImageConfig(
        image_size=32,
        patch_size=8,
        width=32,
        heads=2,
        stages=(StageConfig(1, 8), StageConfig(1, 4), StageConfig(1)),
    ),
    text=TextConfig(vocabulary=600, width=32, depth=1, heads=2),
    projector_hidden=32,
    joint_width=32,
)
VARIANT = Variant.model_validate(
    {
        "title": "test",
        "epochs": 3,
        "batch": 16,
        "labels": {"count": 2},
        "objectives": [{"name": "contrastive"}, {"name": "noise_free"}, {"name": "group_entropy"}],
    }
)
SETTINGS = FinetuneParams(
    epoch_samples=64,
    image_sizes={224: 32},
    device="cpu",
    save_every=4,
    log_every=2,
    optimiser=OptimiserParams(learning_rate=1e-3, decay_epochs=3),
)


def make_corpus(folder: Path) -> Path:
    """Shards and labels of a small drawn COCO."""
    world = WorldParams(coco_train=40, coco_val=1)
    make_source("coco", "mini", folder / "raw", world=world)
    root = raw_root(folder / "raw")
    build_shards(root, folder / "shards", ShardsParams(images_per_shard=20))
    extract_labels(root, folder / "captions", NounsParams())
    return folder


def opened(
    corpus: Path, variant: Variant = VARIANT, settings: FinetuneParams = SETTINGS
) -> tuple[CaptionData, Plan]:
    """The corpus as a run of `variant` sees it."""
    return CaptionData.open(corpus / "captions", corpus / "shards", variant, settings)


def model(*, drop_path: float = 0.1) -> GroupViT:
    """The tiny model, in the same state each time."""
    config = replace(CONFIG, image=replace(CONFIG.image, drop_path=drop_path))
    model = GroupViT(config, generator=torch.Generator().manual_seed(1))
    words = ["person dog cat car bus boat grass sky sea road wall floor photo of the a large small art itap"]
    model.set_tokens(tokenize(words).flatten().tolist())
    return model


def finetune_until(
    stop_at: int,
    trained: GroupViT,
    corpus: Path,
    state: Path,
    variant: Variant = VARIANT,
    settings: FinetuneParams = SETTINGS,
    **options: Any,
) -> Any:
    """The curve of a run on the corpus; None where it is killed after the step `stop_at` (0: never)."""

    class KilledError(Exception):
        pass

    def observe(step: int, row: dict[str, float]) -> None:
        if step == stop_at:
            raise KilledError

    data, plan = opened(corpus, variant, settings)
    options = {"inputs_digest": "inputs", "observe": observe, "progress": False} | options
    with pytest.raises(KilledError) if stop_at else nullcontext():
        return finetune(trained, data, variant, settings, plan, state=state, **options)
    return None


def load_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The step that each later run goes on from, added as it starts; 0 where it starts afresh."""
    found: list[int] = []

    def load(*arguments: Any, **options: Any) -> TrainingState | None:
        state = load_state(*arguments, **options)
        found.append(0 if state is None else state.step)
        return state

    monkeypatch.setattr("regroup.training.progress.load_state", load)
    return found
