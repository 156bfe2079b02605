"""A run on a small drawn corpus: it learns, it resumes to the same bytes, it stops on nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regroup.errors import RegroupError
from regroup.training.finetune import finetune
from regroup.training.plan import Plan
from regroup.training.settings import FinetuneParams, OptimiserParams
from regroup.training.texts import TextFeatures
from regroup.variants import Variant

from .tiny import SETTINGS, VARIANT, model, opened


def train(
    corpus: Path,
    state: Path,
    *,
    variant: Variant = VARIANT,
    settings: FinetuneParams = SETTINGS,
    stop_at: int = 0,
) -> tuple[Any, Any]:
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


def test_plan_scales_the_study() -> None:
    settings = FinetuneParams(epoch_samples=512, batch_divisor=4, image_sizes={224: 64, 384: 112})
    variant = Variant(title="", batch=512, epochs=30, resolution=384)
    assert Plan.of(variant, settings, 8000) == Plan(batch=128, image_size=112, epoch_steps=4, steps=120)
    assert Plan.of(variant, FinetuneParams(), 591_753).steps == 30 * (591_753 // 512)


def test_batch_larger_than_the_corpus_is_refused() -> None:
    with pytest.raises(RegroupError, match=r"a batch of 256 is more than the 100 captions"):
        Plan.of(Variant(title=""), FinetuneParams(), 100)


def test_only_the_named_part_changes_and_the_loss_falls(corpus: Path, tmp_path: Path) -> None:
    before = model().state_dict()
    after, curve = train(corpus, tmp_path / "state")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("grouping" in name for name in changed)
    running = {name for name in changed if "running_" in name or "num_batches" in name}
    assert all("grouping" in name for name in changed - running), changed - running
    assert [row["step"] for row in curve] == [2, 4, 6, 8, 10, 12]
    assert curve[-1]["loss"] < curve[0]["loss"]


@pytest.mark.parametrize("stop_at", [2, 4, 10])
def test_a_killed_run_resumes_to_the_same_bytes(corpus: Path, tmp_path: Path, stop_at: int) -> None:
    undisturbed, curve = train(corpus, tmp_path / "undisturbed")
    train(corpus, tmp_path / "killed", stop_at=stop_at)
    resumed, resumed_curve = train(corpus, tmp_path / "killed")
    assert resumed_curve == curve
    for name, tensor in undisturbed.items():
        assert torch.equal(resumed[name], tensor), name


def test_a_state_of_other_settings_is_not_resumed(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path / "state", stop_at=10)
    other = SETTINGS.model_copy(update={"optimiser": OptimiserParams(learning_rate=5e-4, decay_epochs=3)})
    fresh, _ = train(corpus, tmp_path / "fresh", settings=other)
    resumed, _ = train(corpus, tmp_path / "state", settings=other)
    assert all(torch.equal(resumed[name], tensor) for name, tensor in fresh.items())


def test_a_torn_state_is_named(corpus: Path, tmp_path: Path) -> None:
    train(corpus, tmp_path / "state", stop_at=10)
    file = tmp_path / "state" / "state.pt"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RegroupError, match=r"state\.pt: cannot resume from it .* delete it"):
        train(corpus, tmp_path / "state")


def test_divergence_names_the_step_and_the_images(corpus: Path, tmp_path: Path) -> None:
    data, plan = opened(corpus)
    broken = model()
    with torch.no_grad():
        broken.image.stages[0].group_tokens.fill_(float("nan"))
    with pytest.raises(RegroupError, match=r"diverged at step 0: .*loss nan.*images of the batch: \d+"):
        finetune(broken, data, VARIANT, SETTINGS, plan, state=tmp_path, inputs_digest="", progress=False)


def test_cached_text_features_are_the_towers(corpus: Path) -> None:
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
