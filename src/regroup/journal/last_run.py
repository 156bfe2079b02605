"""The last run of each stage on this machine: when, how long, how it ended. What the report's page tells.

One small file a stage, replaced as a whole, so that stages that run side by side do not meet.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from regroup.errors import RegroupError
from regroup.io import read_json, write_json

FOLDER = Path(".state/last-runs")


@dataclass(frozen=True)
class LastRun:
    """One stage's last run; times in milliseconds since 1970."""

    stage: str
    item: str
    start: int
    end: int
    status: str
    revision: str

    @property
    def name(self) -> str:
        """As in dvc.yaml: `finetune@ge`."""
        return f"{self.stage}@{self.item}" if self.item else self.stage

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start) / 1000


def write_last_run(root: Path, profile: str, run: LastRun) -> None:
    """Note a run below the project's root."""
    write_json(root / FOLDER / profile / f"{run.name}.json", asdict(run))


def read_last_runs(root: Path, profile: str) -> list[LastRun]:
    """What is noted of a profile, by time; notes that another version of the code left are passed over."""
    runs = []
    for path in (root / FOLDER / profile).glob("*.json"):
        try:
            runs.append(LastRun(**read_json(path)))
        except (RegroupError, TypeError):
            continue
    return sorted(runs, key=lambda run: (run.start, run.name))
