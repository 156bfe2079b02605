"""A variant's seeds in one job: each as a run of its own; a killed one goes on, a finished one stays so."""

from __future__ import annotations

import csv
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from regroup.backbones import load_checkpoint
from regroup.model import save_checkpoint
from regroup.seeds import read_seeds
from regroup.training.curve import write_curve
from regroup.training.parallel import is_first, joined, start
from regroup.training.seeds import FinishedRun, finetune_seeds, write_runs
from regroup.training.settings import CheckpointParams, FinetuneParams
from regroup.training.state import Claim, claimed
from regroup.training.texts import TextFeatures
from regroup.variants import Variant

from .tiny import SETTINGS, VARIANT, load_steps, model, opened

SEEDS = VARIANT.model_copy(update={"seeds": (123, 0, 7)})
SHORT = SETTINGS.model_copy(update={"max_steps": 6, "save_every": 2, "snapshots": 2, "views": 2})


class KilledError(Exception):
    """The job ends here."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> CheckpointParams:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(model(drop_path=0.0), folder)
    return CheckpointParams(path=folder)


def train(
    corpus: Path,
    checkpoint: CheckpointParams,
    state: Path,
    variant: Variant = SEEDS,
    *,
    kill_at: tuple[int, int] | None = None,
    settings: FinetuneParams = SHORT,
) -> list[FinishedRun]:
    """Train; with `kill_at`, the job is killed at a step of a seed."""

    def observe(seed: int, step: int, row: Any) -> None:
        if (seed, step) == kill_at:
            raise KilledError

    data, plan = opened(corpus, variant, settings)
    own = claimed(state) if is_first() else nullcontext(Claim())  # the first process claims for all
    with own as claim, pytest.raises(KilledError) if kill_at else nullcontext():
        return finetune_seeds(
            data,
            variant,
            settings,
            checkpoint,
            plan,
            state=state,
            inputs_digest="inputs",
            claim=claim,
            observe=observe,
            progress=False,
        )
    return []


def content(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def undisturbed(
    corpus: Path, checkpoint: CheckpointParams, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """What the three seeds leave, each trained by itself: as a run folder, and the curves."""
    folder = tmp_path_factory.mktemp("single")
    runs = [
        train(corpus, checkpoint, folder / "state" / str(seed), SEEDS.of_seed(seed))[0]
        for seed in SEEDS.seeds
    ]
    return written(runs, folder)


def written(runs: list[FinishedRun], folder: Path) -> dict[str, bytes]:
    write_runs(runs, folder / "run")
    write_curve(folder / "curve.csv", {run.seed: run.curve for run in runs})
    shutil.copyfile(folder / "curve.csv", folder / "run" / "curve.csv")
    return content(folder / "run")


def test_seeds_of_one_job_are_the_bytes_of_separate_runs(
    corpus: Path, checkpoint: CheckpointParams, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    found = written(train(corpus, checkpoint, tmp_path / "state"), tmp_path)
    own = {
        "config.json",
        "model.safetensors",
        "snapshots/step-000003.safetensors",
        "snapshots/step-000006.safetensors",
    }
    further = {f"seeds/{seed}/{name}" for seed in (0, 7) for name in own}
    assert found.keys() == own | further | {"seeds.json", "curve.csv"}
    assert found == undisturbed
    assert len({found[name] for name in found if name.endswith("model.safetensors")}) == 3
    runs = read_seeds(tmp_path / "run")
    assert list(runs) == [123, 0, 7]
    assert all(load_checkpoint(folder) is not None for folder in runs.values())
    rows = list(csv.DictReader((tmp_path / "curve.csv").read_text().splitlines()))
    assert [(row["seed"], row["step"]) for row in rows[::3]] == [("123", "2"), ("0", "2"), ("7", "2")]


@pytest.mark.parametrize(
    "kill_at", [(123, 4), (0, 2), (0, 6), (7, 4)], ids=["first", "begun", "at-its-end", "last"]
)
def test_a_killed_job_keeps_finished_seeds_and_ends_in_the_same_bytes(
    corpus: Path,
    checkpoint: CheckpointParams,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    kill_at: tuple[int, int],
) -> None:
    train(corpus, checkpoint, tmp_path / "state", kill_at=kill_at)
    resumed = load_steps(monkeypatch)
    assert written(train(corpus, checkpoint, tmp_path / "state"), tmp_path) == undisturbed
    seed, step = kill_at
    done = SEEDS.seeds.index(seed)
    # no finished seed is looked at again; the killed one lost no more than `save_every` steps
    assert len(resumed) == len(SEEDS.seeds) - done
    assert step - SHORT.save_every <= resumed[0] < step


def test_a_job_killed_while_it_writes_has_lost_nothing(
    corpus: Path,
    checkpoint: CheckpointParams,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = train(corpus, checkpoint, tmp_path / "state")
    written(runs, tmp_path)
    shutil.rmtree(tmp_path / "run")  # as DVC does before it starts the stage again
    monkeypatch.setattr("regroup.training.seeds.finetune", None)
    assert written(train(corpus, checkpoint, tmp_path / "state"), tmp_path) == undisturbed


@pytest.mark.parametrize("damage", ["a file", "the record", "other settings"])
def test_a_finished_seed_that_is_not_whole_is_trained_again(
    corpus: Path,
    checkpoint: CheckpointParams,
    tmp_path: Path,
    undisturbed: dict[str, bytes],
    damage: str,
) -> None:
    variant = SEEDS.of_seed(123)
    other = SHORT if damage != "other settings" else SHORT.model_copy(update={"max_steps": 4, "snapshots": 1})
    finished = train(corpus, checkpoint, tmp_path / "state", variant, settings=other)[0].folder
    if damage != "other settings":
        file = finished / ("model.safetensors" if damage == "a file" else "finished.json")
        changed = bytearray(file.read_bytes())
        changed[len(changed) // 2] ^= 1
        file.write_bytes(changed)
    found = written(train(corpus, checkpoint, tmp_path / "state", variant), tmp_path)
    for name in ("model.safetensors", "snapshots/step-000003.safetensors"):
        assert found[name] == undisturbed[name]
    assert sum(name.startswith("snapshots/") for name in found) == 2


def test_what_the_seeds_share_is_computed_once(
    corpus: Path, checkpoint: CheckpointParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled: list[int] = []
    fill = TextFeatures._fill

    def count(self: TextFeatures, block: int) -> None:
        filled.append(block)
        fill(self, block)

    monkeypatch.setattr(TextFeatures, "_fill", count)
    train(corpus, checkpoint, tmp_path / "state")
    assert filled
    assert len(filled) == len(set(filled))
    data, _ = opened(corpus, SEEDS, SHORT)
    other = data.of_seed(SEEDS.of_seed(0))
    assert next(data.batches(0)).caption_texts.tolist() != next(other.batches(0)).caption_texts.tolist()
    assert other._reader.decoded is data._reader.decoded
    assert other.report is data.report
    assert data.report.samples == 2 * 16


def test_a_trained_text_tower_is_no_seed_s_but_its_own(
    corpus: Path, checkpoint: CheckpointParams, tmp_path: Path
) -> None:
    """Its features differ from seed to seed, and are those of separate runs too."""
    adapt = [{"name": "parts", "options": {"train": "all"}}]
    everything = Variant.model_validate(SEEDS.model_dump() | {"adapt": adapt})
    settings = SHORT.model_copy(update={"max_steps": 2, "snapshots": 0})
    both = everything.model_copy(update={"seeds": (0, 7)})
    runs = train(corpus, checkpoint, tmp_path / "both", both, settings=settings)
    alone = train(corpus, checkpoint, tmp_path / "alone", both.of_seed(7), settings=settings)
    assert content(runs[1].folder)["model.safetensors"] == content(alone[0].folder)["model.safetensors"]


def train_in_processes(corpus: Path, checkpoint: CheckpointParams, state: Path, kill: bool) -> None:
    torch.set_num_threads(1)
    variant = SEEDS.model_copy(update={"seeds": (123, 0)})
    with joined("cpu"):
        if kill:
            train(corpus, checkpoint, state, variant, kill_at=(0, 4))
        else:
            runs = train(corpus, checkpoint, state, variant)
            if is_first():
                write_runs(runs, state.with_name(f"{state.name}-run"))


@pytest.mark.slow
def test_several_processes_go_on_after_a_kill_in_the_second_seed(
    corpus: Path, checkpoint: CheckpointParams, tmp_path: Path
) -> None:
    start(train_in_processes, 2, corpus, checkpoint, tmp_path / "undisturbed", False)
    start(train_in_processes, 2, corpus, checkpoint, tmp_path / "killed", True)
    assert (tmp_path / "killed/123/finished/finished.json").is_file()
    start(train_in_processes, 2, corpus, checkpoint, tmp_path / "killed", False)
    assert content(tmp_path / "killed-run") == content(tmp_path / "undisturbed-run")
