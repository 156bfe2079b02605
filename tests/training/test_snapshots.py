"""Snapshots of a run: what they hold, and the curve that comes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from regroup.errors import RegroupError
from regroup.metrics import DatasetScores, Metric
from regroup.plugins import NoOptions
from regroup.scoring.validation import validation_curve, write_validation
from regroup.tasks import Evaluation, TaskResult, Work
from regroup.training.finetune import finetune
from regroup.training.snapshots import (
    FOLDER,
    apply_snapshot,
    list_snapshots,
    move_snapshots,
    save_snapshot,
    snapshot_steps,
)

from .tiny import SETTINGS, VARIANT, model, opened


def test_snapshots_are_spread_over_the_run() -> None:
    assert snapshot_steps(120, 5) == {24, 48, 72, 96, 120}
    assert snapshot_steps(3, 5) == {1, 2, 3}
    assert snapshot_steps(10, 0) == set()


@pytest.fixture
def run(corpus: Path, tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """The snapshots of a run of 12 steps, and the weights that it ended with."""
    settings = SETTINGS.model_copy(update={"snapshots": 3})
    data, plan = opened(corpus, VARIANT, settings)
    trained = model()
    state = tmp_path / "state"
    finetune(trained, data, VARIANT, settings, plan, state=state, inputs_digest="", progress=False)
    move_snapshots(state / FOLDER, tmp_path / "run")
    return tmp_path / "run", trained.state_dict()


def test_the_last_snapshot_is_the_run_s_end_and_holds_no_frozen_weights(run) -> None:
    folder, end = run
    snapshots = list_snapshots(folder)
    assert [(snapshot.step, snapshot.epoch) for snapshot in snapshots] == [(4, 1.0), (8, 2.0), (12, 3.0)]
    start = model()
    apply_snapshot(start, snapshots[-1])
    assert all(torch.equal(tensor, end[name]) for name, tensor in start.state_dict().items())
    apply_snapshot(start, snapshots[0])
    differing = {name for name, tensor in start.state_dict().items() if not torch.equal(tensor, end[name])}
    assert differing
    assert all("grouping" in name or "running" in name or "num_batches" in name for name in differing)
    frozen = sum(tensor.numel() for name, tensor in end.items() if name.startswith("text."))
    assert snapshots[0].path.stat().st_size < 4 * (sum(t.numel() for t in end.values()) - frozen)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    def written(folder: Path) -> bytes:
        save_snapshot(model(), folder, step=7, epoch=1.75)
        return (folder / "step-000007.safetensors").read_bytes()

    assert len({written(tmp_path / str(number)) for number in range(8)}) == 1


def test_a_curve_has_a_point_a_snapshot(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, end = run
    seen: list[float] = []

    def score(_: Evaluation, scored: Any, work: Work) -> TaskResult:
        assert work.token_cache is None
        seen.append(float(scored.state_dict()["image.stages.0.grouping.norm_groups.weight"].sum()))
        values = DatasetScores(values={"top_1": 10.0 + len(seen) / 3}, images=1, protocol={})
        return TaskResult("top_1", {"top_1": Metric(title="top-1")}, {"coco": values})

    monkeypatch.setattr(Evaluation, "run", score)
    point, work = Evaluation("any", "any", NoOptions()), Work({}, token_cache=tmp_path / "tokens")
    trained = model()
    trained.load_state_dict(end)
    rows = validation_curve(trained, list_snapshots(folder), apply_snapshot, point, work)
    assert len(set(seen)) == 3
    write_validation(tmp_path / "curve.csv", rows)
    assert (tmp_path / "curve.csv").read_text().splitlines() == [
        "step,epoch,val_coco",
        "4,1,10.3333",
        "8,2,10.6667",
        "12,3,11",
    ]
    assert pq.read_table(tmp_path / "curve.parquet").to_pylist() == rows
    assert rows[0]["val_coco"] == 10 + 1 / 3
    untrained = validation_curve(trained, [], apply_snapshot, point, work)
    assert [(row["step"], row["epoch"]) for row in untrained] == [(0, 0.0)]


def test_another_model_s_snapshot_is_refused(run) -> None:
    folder, _ = run
    (folder / FOLDER / "step-000099.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(RegroupError, match=r"step-000099\.safetensors: not a snapshot"):
        list_snapshots(folder)
