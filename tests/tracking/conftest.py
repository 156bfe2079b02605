"""A project's folder with an empty MLflow store."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .tracked import client


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables; making them takes seconds, copying them does not."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    client(path.parent).search_experiments()
    return path


@pytest.fixture
def root(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "REGROUP_PIPELINE_RUN", "DVC_EXP_NAME"):
        monkeypatch.delenv(name, raising=False)
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)  # where MLflow's own commands find a project's artefacts
    return tmp_path


@pytest.fixture(autouse=True)
def _no_leak() -> Iterator[None]:
    environment = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(environment)
