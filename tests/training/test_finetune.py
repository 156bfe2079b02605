"""A run on a small drawn corpus: it learns, it resumes to the same bytes, it stops on nonsense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from regroup.captions.labels import extract_labels
from regroup.captions.settings import NounsParams, ShardsParams
from regroup.captions.shards import build_shards
from regroup.captions.tokens import tokenize
from regroup.errors import RegroupError
from regroup.model import GroupViT, GroupViTConfig, ImageConfig, StageConfig, TextConfig
from regroup.sources.make import make_source
from regroup.sources.manifest import raw_root
from regroup.sources.settings import WorldParams
from regroup.training.data import CaptionData
from regroup.training.finetune import finetune
from regroup.training.plan import Plan
from regroup.training.settings import FinetuneParams, OptimiserParams
from regroup.training.texts import TextFeatures
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


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and labels of a small drawn COCO."""
    folder = tmp_path_factory.mktemp("corpus")
    world = WorldParams(coco_train=40, coco_val=1)
    make_source("coco", "mini", folder / "raw", world=world)
    root = raw_root(folder / "raw")
    build_shards(root, folder / "shards", ShardsParams(images_per_shard=20))
    extract_labels(root, folder / "captions", NounsParams())
    return folder


def opened(
    corpus: Path, variant: Variant = VARIANT, settings: FinetuneParams = SETTINGS
) -> tuple[CaptionData, Plan]:
    return CaptionData.open(corpus / "captions", corpus / "shards", variant, settings)


def model() -> GroupViT:
    model = GroupViT(CONFIG, generator=torch.Generator().manual_seed(1))
    words = ["person dog cat car bus boat grass sky sea road wall floor photo of the a large small art itap"]
    model.set_tokens(tokenize(words).flatten().tolist())
    return model


def train(
    corpus: Path,
    state: Path,
    *,
    variant: Variant = VARIANT,
    settings: FinetuneParams = SETTINGS,
    stop_at: int = 0,
):
    trained = model()
    data, plan = opened(corpus, variant, settings)

    class KilledError(Exception):
        pass

    def observe(step: int, row: dict[str, float]) -> None:
        if step == stop_at:
            raise KilledError

    arguments = {"state": state, "inputs_digest": "inputs", "observe": observe, "progress": False}
    if stop_at:
        with pytest.raises(KilledError):
            finetune(trained, data, variant, settings, plan, **arguments)
        return None, None
    return trained.state_dict(), finetune(trained, data, variant, settings, plan, **arguments)


def test_plan_scales_the_study():
    settings = FinetuneParams(epoch_samples=512, batch_divisor=4, image_sizes={224: 64, 384: 112})
    variant = Variant(title="", batch=512, epochs=30, resolution=384)
    assert Plan.of(variant, settings, 8000) == Plan(batch=128, image_size=112, epoch_steps=4, steps=120)
    assert Plan.of(variant, FinetuneParams(), 591_753).steps == 30 * (591_753 // 512)


def test_batch_larger_than_the_corpus_is_refused():
    with pytest.raises(RegroupError, match=r"a batch of 256 is more than the 100 captions"):
        Plan.of(Variant(title=""), FinetuneParams(), 100)


def test_only_the_named_part_changes_and_the_loss_falls(corpus: Path, tmp_path: Path):
    before = model().state_dict()
    after, curve = train(corpus, tmp_path / "state")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("grouping" in name for name in changed)
    running = {name for name in changed if "running_" in name or "num_batches" in name}
    assert all("grouping" in name for name in changed - running), changed - running
    assert [row["step"] for row in curve] == [2, 4, 6, 8, 10, 12]
    assert curve[-1]["loss"] < curve[0]["loss"]


@pytest.mark.parametrize("stop_at", [2, 4, 10])
def test_a_killed_run_resumes_to_the_same_bytes(corpus: Path, tmp_path: Path, stop_at: int):
    undisturbed, curve = train(corpus, tmp_path / "undisturbed")
    train(corpus, tmp_path / "killed", stop_at=stop_at)
    resumed, resumed_curve = train(corpus, tmp_path / "killed")
    assert resumed_curve == curve
    for name, tensor in undisturbed.items():
        assert torch.equal(resumed[name], tensor), name


def test_a_state_of_other_settings_is_not_resumed(corpus: Path, tmp_path: Path):
    train(corpus, tmp_path / "state", stop_at=10)
    other = SETTINGS.model_copy(update={"optimiser": OptimiserParams(learning_rate=5e-4, decay_epochs=3)})
    fresh, _ = train(corpus, tmp_path / "fresh", settings=other)
    resumed, _ = train(corpus, tmp_path / "state", settings=other)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in fresh.items())


def test_a_torn_state_is_named(corpus: Path, tmp_path: Path):
    train(corpus, tmp_path / "state", stop_at=10)
    file = tmp_path / "state" / "state.pt"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RegroupError, match=r"state\.pt: cannot resume from it .* delete it"):
        train(corpus, tmp_path / "state")


def test_divergence_names_the_step_and_the_images(corpus: Path, tmp_path: Path):
    data, plan = opened(corpus)
    broken = model()
    with torch.no_grad():
        broken.image.stages[0].group_tokens.fill_(float("nan"))
    with pytest.raises(RegroupError, match=r"diverged at step 0: .*loss nan.*images of the batch: \d+"):
        finetune(broken, data, VARIANT, SETTINGS, plan, state=tmp_path, inputs_digest="", progress=False)


def test_cached_text_features_are_the_towers(corpus: Path):
    """Whatever was asked first, a text's feature is what the tower makes of it, in the same bytes."""
    data, _ = opened(corpus)
    tower = model().eval()
    numbers = np.random.default_rng(0).integers(0, data.text_count, (5, 7))
    forwards = TextFeatures(tower.encode_text_tower, data.tokens, data.text_count, block=16)
    backwards = TextFeatures(tower.encode_text_tower, data.tokens, data.text_count, block=16)
    one = forwards(numbers)
    two = torch.stack([backwards(row) for row in numbers[::-1]]).flip(0)
    assert torch.equal(one, two)
    with torch.no_grad():
        plain = tower.encode_text_tower(data.tokens(numbers.flatten())).reshape(one.shape)
    torch.testing.assert_close(one, plain, rtol=0, atol=1e-5)
