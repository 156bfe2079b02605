"""Two processes, chunks, kept features: the same gradients, the same parameters."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from regroup.adaptation.parts import set_trainable
from regroup.errors import RegroupError
from regroup.training.finetune import finetune
from regroup.training.parallel import _claim_gpu, _claims, is_first, joined, start
from regroup.training.settings import FinetuneParams
from regroup.training.step import TrainingStep
from regroup.training.texts import TextFeatures
from regroup.variants import Variant

from .tiny import SETTINGS, VARIANT, model, opened

EVERYTHING = Variant.model_validate(
    VARIANT.model_dump()
    | {
        "adapt": [{"name": "parts", "options": {"train": "both_gbs+projectors"}}],
        "epochs": 5,
        "labels": {"count": 5},
        "batch_norm": {"statistics": "recomputed", "segments": True, "padding": True},
        "objectives": [
            {"name": "contrastive"},
            {"name": "multi_label"},
            {"name": "noise_free", "options": {"scope": "global"}},
            {"name": "group_entropy"},
            {"name": "label_entropy", "options": {"form": "published"}},
        ],
    }
)
"""Both projectors are trained, so batch norm must be synchronised for the results to agree."""


def train_twenty_steps(corpus: Path, folder: Path, settings: FinetuneParams) -> None:
    """One process's part of a run of 20 steps; the first writes the parameters."""
    torch.set_num_threads(1)
    with joined("cpu") as device:
        data, plan = opened(corpus, EVERYTHING, settings)
        trained = model().double()  # Adam makes steps of full size of what is rounding alone in float32
        assert plan.steps == 20
        finetune(
            trained,
            data,
            EVERYTHING,
            settings,
            plan,
            state=folder / "state",
            inputs_digest="",
            device=device,
            progress=False,
        )
        if is_first():
            torch.save(trained.state_dict(), folder / "model.pt")


@pytest.mark.slow
def test_two_processes_train_what_one_does(corpus: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    train_twenty_steps(corpus, tmp_path / "one", SETTINGS)
    start(train_twenty_steps, 2, corpus, tmp_path / "two", SETTINGS)
    one, two = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("one", "two"))
    before = model().double().state_dict()
    moved = max(float((tensor - before[name]).abs().max()) for name, tensor in one.items())
    assert moved > 1e-3
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=0, atol=1e-5, msg=name)


def fail_in_the_second(message: str) -> None:
    with joined("cpu"):
        if not is_first():
            raise RegroupError(message)
        time.sleep(60)


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others() -> None:
    began = time.monotonic()
    with pytest.raises(SystemExit) as ended:
        start(fail_in_the_second, 2, "bad input")
    assert ended.value.code == 2
    assert time.monotonic() - began < 50


def test_a_batch_that_cannot_be_shared_is_refused(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regroup.training.parallel.world_size", lambda: 3)
    with pytest.raises(RegroupError, match="batch of 16 images cannot be shared by 3 processes"):
        opened(corpus)


def gradients(corpus: Path, settings: FinetuneParams, part: str = "both_gbs") -> dict[str, torch.Tensor]:
    """Gradients of the first batch in the state of training, in float64."""
    data, plan = opened(corpus, EVERYTHING, settings)
    trained = model().double()
    trained.train()
    set_trainable(trained, part)
    step = TrainingStep(trained, data, EVERYTHING, settings, image_size=plan.image_size)
    step(next(data.batches(0)), torch.Generator().manual_seed(3))
    return {
        name: parameter.grad
        for name, parameter in trained.named_parameters()
        if parameter.requires_grad and parameter.grad is not None
    }


@pytest.mark.parametrize("part", ["both_gbs", "both_gbs+projectors", "projectors", "image_tower", "all"])
def test_chunks_give_the_gradients_of_the_whole_batch(corpus: Path, part: str) -> None:
    whole = gradients(corpus, SETTINGS, part)
    parts = gradients(corpus, SETTINGS.model_copy(update={"chunks": 3}), part)
    assert whole.keys() == parts.keys()
    assert max(float(gradient.abs().max()) for gradient in whole.values()) > 1e-4
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, rtol=0, atol=1e-9, msg=name)


def test_kept_text_features_give_the_gradients_of_encoding_again(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = gradients(corpus, SETTINGS, "both_gbs+projectors")
    plain = TextFeatures.__call__
    asked = []

    def encode_again(self: TextFeatures, numbers: Any) -> torch.Tensor:
        asked.append(len(numbers))
        return self._encode(self._tokens(numbers))

    monkeypatch.setattr(TextFeatures, "__call__", encode_again)
    again = gradients(corpus, SETTINGS, "both_gbs+projectors")
    assert asked
    assert TextFeatures.__call__ is not plain
    for name, gradient in kept.items():
        torch.testing.assert_close(again[name], gradient, rtol=0, atol=1e-9, msg=name)


def test_kept_first_stages_give_the_training_of_computing_them_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"views": 2})
    results = []
    for keep in (True, False):
        if not keep:
            monkeypatch.setattr("regroup.model.GroupViT.first_stage_is_fixed", lambda model: False)
        data, plan = opened(corpus, VARIANT, settings)
        trained = model(drop_path=0.0)
        arguments = {"state": tmp_path / str(keep), "inputs_digest": "", "progress": False}
        finetune(trained, data, VARIANT, settings, plan, **arguments)
        results.append(trained.state_dict())
    before = model(drop_path=0.0).state_dict()
    assert any(not torch.equal(tensor, before[name]) for name, tensor in results[0].items())
    for name, tensor in results[0].items():
        torch.testing.assert_close(results[1][name], tensor, rtol=0, atol=1e-5, msg=name)


def test_views_recur_and_do_not_depend_on_their_neighbours(corpus: Path) -> None:
    settings = SETTINGS.model_copy(update={"views": 1})
    data, _ = opened(corpus, VARIANT, settings)
    seen: dict[int, torch.Tensor] = {}
    recurred = 0
    batches = data.batches(0)
    for _ in range(8):
        batch = next(batches)
        for image, pixels in zip(batch.image_ids.tolist(), batch.pixels, strict=True):
            if image in seen:
                recurred += 1
                assert torch.equal(seen[image], pixels)
            seen[image] = pixels
    assert recurred > 20
    fresh, _ = opened(corpus)
    first = next(fresh.batches(0))
    assert not torch.equal(first.pixels[0], seen[int(first.image_ids[0])])


def test_runs_side_by_side_claim_gpus_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    claimed = len(_claims)
    try:
        assert [_claim_gpu(), _claim_gpu(), _claim_gpu()] == [0, 1, 0]
    finally:
        for descriptor in _claims[claimed:]:
            os.close(descriptor)
        del _claims[claimed:]


RUN = """
import sys
from pathlib import Path
import torch
from tiny import SETTINGS, VARIANT, model, opened
from regroup.training.finetune import finetune
torch.set_num_threads(1)
corpus, folder = Path(sys.argv[1]), Path(sys.argv[2])
data, plan = opened(corpus, VARIANT.model_copy(update={"epochs": 30}), SETTINGS)
trained = model()
def observe(step, row):
    print(step, flush=True)
finetune(trained, data, VARIANT, SETTINGS, plan, state=folder / "state", inputs_digest="", observe=observe,
         progress=False)
torch.save(trained.state_dict(), folder / "model.pt")
"""


def launch(corpus: Path, folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(corpus), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


@pytest.mark.slow
def test_a_run_that_is_ended_goes_on_to_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    with launch(corpus, tmp_path / "undisturbed") as run:
        assert len(run.stdout.read().split()) == 60
    for end, status, begun_after, ended_at in (
        (signal.SIGTERM, 143, 0, 30),
        (signal.SIGKILL, -signal.SIGKILL, 20, 70),
    ):
        with launch(corpus, tmp_path / "ended") as run:
            first = step = int(run.stdout.readline())
            while step < ended_at:
                step = int(run.stdout.readline())
            run.send_signal(end)
            run.stdout.read()
        assert run.returncode == status
        assert first > begun_after
        assert not (tmp_path / "ended" / "model.pt").exists()
    with launch(corpus, tmp_path / "ended") as run:
        steps = [int(line) for line in run.stdout.read().split()]
    assert steps[0] > 60
    assert (tmp_path / "ended/model.pt").read_bytes() == (tmp_path / "undisturbed/model.pt").read_bytes()
