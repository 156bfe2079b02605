"""A run on a small drawn corpus: it learns, it resumes to the same bytes, it stops on nonsense."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from regroup.errors import RegroupError
from regroup.io import source_digest
from regroup.lease import LeaseLostError
from regroup.plugins import Room, Use
from regroup.training.finetune import CODE, finetune
from regroup.training.plan import Plan
from regroup.training.settings import FinetuneParams, OptimiserParams
from regroup.training.snapshots import FOLDER
from regroup.training.state import claimed
from regroup.training.texts import TextFeatures
from regroup.variants import Variant, code_digests

from .tiny import SETTINGS, VARIANT, finetune_until, load_steps, model, opened


def train(
    corpus: Path,
    state: Path,
    *,
    variant: Variant = VARIANT,
    settings: FinetuneParams = SETTINGS,
    stop_at: int = 0,
) -> tuple[Any, Any]:
    """The weights and the curve; with `stop_at`, the run is killed there and has no curve."""
    trained = model()
    curve = finetune_until(stop_at, trained, corpus, state, variant, settings)
    return trained.state_dict(), curve


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


@pytest.mark.parametrize("mended", ["objective", "layer", "backbone"])
def test_a_state_of_other_code_is_not_resumed(
    mended: str,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A loss, a layer or a draw that was mended: its new result must not grow out of the old one's half."""
    source = tmp_path / "src"
    for name in CODE:
        (source / name).mkdir(parents=True)
        (source / name / "module.py").write_text("weight = 1\n")
    monkeypatch.setattr("regroup.io.__file__", str(source / "io.py"))
    fresh, curve = train(corpus, tmp_path / "fresh")
    train(corpus, tmp_path / "state", stop_at=10)
    if mended == "objective":
        digests = {**code_digests(VARIANT), "objectives.noise_free": "another"}
        monkeypatch.setattr("regroup.training.finetune.code_digests", lambda variant: digests)
    elif mended == "backbone":
        monkeypatch.setattr(Room, "digest", lambda room, name: f"another {room.key}")
    else:
        (source / "model" / "module.py").write_text("weight = 3\n")
    loaded = load_steps(monkeypatch)
    resumed, again = train(corpus, tmp_path / "state")
    assert loaded == [0]
    assert "it is of other code; this run starts anew" in capsys.readouterr().err
    assert again == curve
    assert all(torch.equal(resumed[name], tensor) for name, tensor in fresh.items())


def test_a_state_of_another_machine_or_thread_count_is_not_resumed(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(corpus, tmp_path / "state", stop_at=10)
    loaded = load_steps(monkeypatch)
    train(corpus, tmp_path / "state", stop_at=12)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        train(corpus, tmp_path / "state", stop_at=2)
    finally:
        torch.set_num_threads(threads)
    assert loaded == [8, 0]


def test_the_digest_of_source_follows_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digest(folder: str, content: str, name: str = "a.py") -> str:
        package = tmp_path / folder / "package"
        (package / "__pycache__").mkdir(parents=True)
        (package / name).write_text(content)
        (package / "__pycache__" / "a.cpython-311.pyc").write_text(folder)
        monkeypatch.setattr("regroup.io.__file__", str(tmp_path / folder / "io.py"))
        return source_digest("package")

    one = digest("one", "x = 1")
    assert one == digest("two", "x = 1")
    assert len({one, digest("three", "x = 2"), digest("four", "x = 1", "b.py")}) == 3


def test_a_damaged_state_is_not_resumed(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, _ = train(corpus, tmp_path / "undisturbed")
    train(corpus, tmp_path / "state", stop_at=10)
    file = tmp_path / "state" / "state.pt"
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 4
    for damaged in (whole[:100], flipped):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(damaged)
        resumed, _ = train(corpus, tmp_path / "state")
        assert "state.pt: not resumed from, because the file is damaged" in capsys.readouterr().err
        assert all(torch.equal(resumed[name], tensor) for name, tensor in undisturbed.items())


def test_a_state_whose_snapshots_are_damaged_is_not_resumed(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SETTINGS.model_copy(update={"snapshots": 6})
    train(corpus, tmp_path / "undisturbed", settings=settings)
    train(corpus, tmp_path / "state", settings=settings, stop_at=10)
    snapshot = sorted((tmp_path / "state" / FOLDER).iterdir())[0]
    content = bytearray(snapshot.read_bytes())
    content[-3] ^= 1
    snapshot.write_bytes(content)
    train(corpus, tmp_path / "state", settings=settings)
    assert f"its snapshot {FOLDER}/{snapshot.name} is damaged" in capsys.readouterr().err
    for taken in (tmp_path / "undisturbed" / FOLDER).iterdir():
        assert (tmp_path / "state" / FOLDER / taken.name).read_bytes() == taken.read_bytes()


def test_only_one_run_at_a_time_has_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regroup.training.state.stale_seconds", lambda: 0.2)
    state = tmp_path / "runs" / "ge"
    with claimed(state) as claim:
        claim.confirm()
        started = time.monotonic()
        with (
            pytest.raises(
                RegroupError, match=r"ge\.lock: held by process \d+ on .*; wait for it, or stop it"
            ),
            claimed(state),
        ):
            pass
        assert time.monotonic() - started < 5
        with claimed(tmp_path / "runs" / "other"):
            claim.confirm()
        (tmp_path / "runs" / "ge.lock").unlink()
        with claimed(state), pytest.raises(LeaseLostError, match="took this one for dead"):
            claim.confirm()
    with claimed(state):
        pass


def test_a_run_that_lost_its_claim_writes_nothing_more(corpus: Path, tmp_path: Path) -> None:
    data, plan = opened(corpus)
    state = tmp_path / "ge"
    with claimed(state) as claim:

        def rob(step: int, row: dict[str, float]) -> None:
            (tmp_path / "ge.lock").unlink(missing_ok=True)

        with pytest.raises(LeaseLostError):
            finetune(
                model(),
                data,
                VARIANT,
                SETTINGS,
                plan,
                state=state,
                inputs_digest="",
                claim=claim,
                observe=rob,
                progress=False,
            )
    assert not state.exists()


def test_divergence_names_the_step_and_the_images(corpus: Path, tmp_path: Path) -> None:
    data, plan = opened(corpus)
    broken = model()
    with torch.no_grad():
        broken.image.stages[0].group_tokens.fill_(float("nan"))
    with pytest.raises(RegroupError, match=r"diverged at step 0: .*loss nan.*images of the batch: \d+"):
        finetune(broken, data, VARIANT, SETTINGS, plan, state=tmp_path, inputs_digest="", progress=False)


def test_a_loss_that_nothing_trained_changes_is_refused(corpus: Path, tmp_path: Path) -> None:
    data, plan = opened(corpus)
    entropy = VARIANT.model_copy(
        update={
            "objectives": VARIANT.objectives[2:],
            "adapt": (Use(name="parts", options={"train": "image_projector"}),),
        }
    )
    with pytest.raises(RegroupError, match="objectives: group_entropy: nothing that this run trains"):
        finetune(model(), data, entropy, SETTINGS, plan, state=tmp_path, inputs_digest="", progress=False)


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
