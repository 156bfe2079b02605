"""The stage scripts, run in this process."""

from __future__ import annotations

import runpy

import pytest

from tests.thesis import ROOT


def run_stage(
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    item: str | None = None,
    *,
    params: str = "params.yaml",
) -> None:
    """Run a stage's script in the folder that we are in, as its command line does."""
    script = str(ROOT / "stages" / f"{stage}.py")
    words = [script, "--params", params, *([] if item is None else ["--item", item])]
    monkeypatch.setattr("sys.argv", words)
    runpy.run_path(script, run_name="__main__")
