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
from regroup.scoring.validation import validation_curve, with_start, write_validation
from regroup.tasks import Evaluation, TaskResult, Work
from regroup.training.finetune import finetune
from regroup.training.snapshots import (
    FOLDER,
    Snapshot,
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
        assert work.text_cache is None
        assert work.token_cache == tmp_path / "tokens", "both blocks are trained: the first stage stays"
        seen.append(float(scored.state_dict()["image.stages.0.grouping.norm_groups.weight"].sum()))
        values = DatasetScores(values={"top_1": 10.0 + len(seen) / 3}, images=1, protocol={})
        return TaskResult("top_1", {"top_1": Metric(title="top-1")}, {"coco": values})

    monkeypatch.setattr(Evaluation, "run", score)
    point = Evaluation("any", "any", NoOptions())
    work = Work({}, text_cache=tmp_path / "texts", token_cache=tmp_path / "tokens")
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


def test_tokens_of_a_first_stage_that_was_trained_are_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    caches: list[Path | None] = []

    def score(_: Evaluation, scored: Any, work: Work) -> TaskResult:
        caches.append(work.token_cache)
        return TaskResult("top_1", {}, {})

    def go_to(trained: Any, point: Snapshot) -> None:
        with torch.no_grad():
            trained.image.stages[0].blocks[0].mlp.up.bias.fill_(point.step)

    monkeypatch.setattr(Evaluation, "run", score)
    trained, points = model(), [Snapshot(Path(), step, float(step)) for step in (1, 2)]
    go_to(trained, points[-1])
    work, kept = Work({}, token_cache=Path("tokens")), Path("tokens")
    validation_curve(trained, points, go_to, Evaluation("any", "any", NoOptions()), work)
    assert caches == [None, kept], "only the end has the weights that the checkpoint was scored with"


def test_a_run_that_regroups_is_scored_before_its_first_step(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SETTINGS.model_copy(update={"snapshots": 2})
    variant = VARIANT.model_copy(update={"last_group_tokens": 4})
    data, plan = opened(corpus, variant, settings)
    trained, state = model(), tmp_path / "state"
    finetune(trained, data, variant, settings, plan, state=state, inputs_digest="", progress=False)
    points = list_snapshots(state)
    assert [point.step for point in points] == [0, 6, 12]
    start, end = model().state_dict(), {name: one.clone() for name, one in trained.state_dict().items()}

    def score(_: Evaluation, scored: Any, work: Work) -> TaskResult:
        own = scored.state_dict()
        at_start = all(torch.equal(own[name], tensor) for name, tensor in start.items())
        values = DatasetScores(values={"top_1": 1.0 if at_start else 2.0}, images=1, protocol={})
        return TaskResult("top_1", {"top_1": Metric(title="top-1", unit="percent")}, {"coco": values})

    monkeypatch.setattr(Evaluation, "run", score)
    task, work = Evaluation("any", "any", NoOptions()), Work({})
    result = with_start(task.run(trained, work), trained, points, apply_snapshot, task, work)
    assert result.datasets["coco"].values == {"top_1": 2.0, "top_1_start": 1.0}
    assert result.metrics["top_1_start"].title == "top-1 before training"
    assert all(torch.equal(tensor, end[name]) for name, tensor in trained.state_dict().items())
    other = with_start(task.run(trained, work), trained, points[1:], apply_snapshot, task, work)
    assert other.datasets["coco"].values == {"top_1": 2.0}, "other runs start as their checkpoint"


def test_another_model_s_snapshot_is_refused(run) -> None:
    folder, _ = run
    (folder / FOLDER / "step-000099.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(RegroupError, match=r"step-000099\.safetensors: not a snapshot"):
        list_snapshots(folder)
