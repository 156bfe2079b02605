"""A project with a study beside the thesis."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.thesis import enter_project

from .studies import READ, add_study


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that we are in: the default project, and a study `mine`."""
    enter_project(tmp_path, monkeypatch, "dvc.yaml", "full/overrides.yaml", *READ)
    add_study(tmp_path, "mine")
    return tmp_path
