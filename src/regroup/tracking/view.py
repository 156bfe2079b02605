"""What a reader finds in MLflow's pages: descriptions, and a view of the runs with columns that matter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

VIEW = "regroup"
"""Key of the view in the addresses that `ui` prints; MLflow calls it a shared view."""

CURRENT = "tags.superseded = 'false'"
"""Runs of stages that no later run supersedes."""

ABOUT = """\
The study's runs. A run of the pipeline is a parent; below it are the stages that ran, with their parameters
and curves, what they read (datasets) and what they wrote. `output.PATH` is the MD5 that dvc.lock has; small
files are copied. `superseded = true` marks what a later run of the same stage replaces. A parent's tags
`kept.PATH` are outputs that dvc.lock names and no run made here: they came from DVC's cache or with the
repository.
"""

_COLUMNS = (
    "tags.`stage`",
    "tags.`item`",
    "metrics.`coco/mIoU`",
    "metrics.`voc/mIoU`",
    "metrics.`context/mIoU`",
    "metrics.`ade/mIoU`",
    "metrics.`loss`",
)


def view_tags() -> dict[str, str]:
    """Tags of the experiment: its description, and the view, as MLflow's "share" button stores it."""
    state = {
        "searchFilter": CURRENT,
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "selectedColumns": _COLUMNS,
    }
    return {"mlflow.note.content": ABOUT, f"mlflow.sharedViewState.{VIEW}": json.dumps(state)}


def view_address(port: int, experiment: str) -> str:
    """Where the view of an experiment is, on this machine."""
    return f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?{urlencode({'viewStateShareKey': VIEW})}"


def run_note(start: Mapping[str, Any]) -> str:
    """A run's description: what it is, in words, and how to run it again."""
    name = f"{start['stage']}@{start['item']}" if start["item"] else start["stage"]
    variant = start["params"].get("Variant", {})
    title = f"{variant['title']}. " if "title" in variant else ""
    return f"{title}Stage `{name}` of profile `{start['profile']}`; again: `dvc repro --force {name}`."
