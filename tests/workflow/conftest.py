"""Fixtures: the toy project, reproduced once and copied for each test."""

import shutil
import sys
from pathlib import Path

import pytest

from .toy_project import PARAMS, PIPELINE, ROOT, WORK, Project, user_environment

sys.path.insert(0, str(ROOT / "workflow"))


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy") / "project"
    shutil.copytree(ROOT / "workflow", root / "workflow", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / "work.py").write_text(WORK)
    for profile, params in {"mini": "params.yaml", "full": "full/params.yaml"}.items():
        up = ".." if "/" in params else "."
        (root / params).parent.mkdir(exist_ok=True)
        (root / params).write_text(PARAMS.format(name=profile, root=up, params_file=params))
        (root / "data" / profile).mkdir(parents=True)
        (root / "data" / profile / "frozen.txt").write_text("frozen\n")
    (root / "full/dvc.yaml").symlink_to("../dvc.yaml")
    project = Project(root, user_environment())
    project.dvc("init", "--no-scm", "--quiet")
    shutil.copyfile(ROOT / ".dvc/config", root / ".dvc/config")
    project.dvc("config", "core.no_scm", "true")
    project.dvc("repro", "--quiet")
    project.worked()
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Project:
    """The project as it is after `dvc repro`: everything up to date."""
    shutil.copytree(template, tmp_path / "project", symlinks=True)
    return Project(tmp_path / "project", user_environment())
