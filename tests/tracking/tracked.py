"""Stages that are tracked, and what MLflow's own client then finds."""

import hashlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

from regroup.journal import StageRun, TrackingParams, track_stage

SETTINGS = TrackingParams(experiment="study")


def stage(
    root: Path,
    name: str = "finetune@ge",
    *,
    profile: str = "mini",
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    settings: TrackingParams = SETTINGS,
) -> AbstractContextManager[StageRun]:
    return track_stage(
        name,
        profile=profile,
        root=root,
        params={"optimiser": {"rate": 0.1, "betas": [0.9, 0.95]}, "resume": None},
        inputs=[root / path for path in inputs],
        outputs=[root / path for path in outputs],
        settings=settings,
    )


def client(root: Path) -> "MlflowClient":
    from mlflow import MlflowClient  # seconds

    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


def runs(root: Path, condition: str = "tags.kind = 'stage'") -> "list[Run]":
    experiment = client(root).get_experiment_by_name("study")
    if experiment is None:
        return []
    return list(client(root).search_runs([experiment.experiment_id], condition, order_by=["start_time"]))


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def lock(root: Path, outputs: dict[str, str]) -> None:
    """A project with these outputs in its dvc.lock."""
    (root / "params.yaml").write_text("name: mini\ntracking: {experiment: study}\n")
    listed = "".join(
        f"    - {{path: '{path}', md5: '{digest}', size: 1}}\n" for path, digest in outputs.items()
    )
    (root / "dvc.lock").write_text(f"schema: '2.0'\nstages:\n  one:\n    outs:\n{listed}")
