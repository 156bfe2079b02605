"""What `make` takes."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_an_unknown_engine_is_refused() -> None:
    command = ["make", "--dry-run", "repro", "ENGINE=snakmake"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "ENGINE: `snakmake` is neither snakemake nor dvc" in done.stderr
