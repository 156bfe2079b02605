"""Scores for people, `dvc metrics`, `dvc plots` and `regroup verify`: a summary, and all runs in one file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from regroup.drawing.grid import csv_text
from regroup.io import write_text
from regroup.metrics import METRICS, MIOU, SEGMENTATION, read_metrics
from regroup.report.columns import DATASET_TITLES
from regroup.report.comparison import Verdict
from regroup.report.scores import rounded


def write_scores(
    metrics: Path, tasks: Sequence[str], names: Sequence[str], folder: Path, *, profile: str
) -> None:
    """Write `scores.csv` from the metrics files of some runs.

    A column is called as in tables: a dataset for its mIoU, then the other tasks' percentages as
    `task/metric/dataset`. Two decimals, as in the tables; runs without a file are left out, and what a run
    was not scored on is empty. Datasets of one's own come after the thesis's.

    Args:
        metrics: folder of the metrics files, `<task>/<run>/metrics.json`.
        tasks: names of evaluations.
        names: of runs.
        folder: gets the file.
        profile: name of the profile.

    Raises:
        RegroupError: a metrics file that is malformed or of another profile.
    """
    scores: dict[str, Mapping[str, float]] = {}
    for name in names:
        if found := {
            key: value for task in tasks for key, value in _percentages(metrics / task / name, profile)
        }:
            order = dict.fromkeys((*DATASET_TITLES, *found))
            scores[name] = {key: float(rounded(found[key])) for key in order if key in found}
    every = dict.fromkeys((*DATASET_TITLES, *(key for values in scores.values() for key in values)))
    columns = sorted(every, key=lambda key: "/" in key)  # mIoU of all datasets first
    lines = [["variant", *columns]]
    lines += [[name, *(str(values.get(key, "")) for key in columns)] for name, values in scores.items()]
    write_text(folder / "scores.csv", csv_text(lines))


def _percentages(folder: Path, profile: str) -> Iterator[tuple[str, float]]:
    """Columns and values of one run's metrics file on one task; none without a file."""
    if not (folder / METRICS).is_file():
        return
    found = read_metrics(folder / METRICS, profile=profile)
    for dataset, scores in found.datasets.items():
        if found.task == SEGMENTATION:
            yield dataset, scores.values[MIOU]
            continue
        for metric, value in scores.values.items():
            if found.metrics[metric].unit == "percent":
                yield f"{found.task}/{metric}/{dataset}", value


def write_summary(
    metrics: Path, variant: str | None, verdicts: Mapping[Verdict, int], folder: Path, *, profile: str
) -> None:
    """Write `summary.yaml`: the mIoU of one variant, and how many of the thesis's claims hold.

    Few enough numbers for one line of `dvc metrics show` and `dvc exp show`. A variant that was not scored is
    left out.

    Args:
        metrics: folder of the metrics files, as for `write_scores`.
        variant: the variant, usually the study's final one; None: none is.
        verdicts: number of claims by verdict; empty where the study has none.
        folder: gets the file.
        profile: name of the profile.

    Raises:
        RegroupError: a metrics file that is malformed or of another profile.
    """
    found = () if variant is None else _percentages(metrics / SEGMENTATION / variant, profile)
    lines = [f"{json.dumps(dataset)}: {rounded(value)}" for dataset, value in found]
    counts = [f"  {verdict.replace(' ', '_')}: {count}" for verdict, count in verdicts.items()]
    said = [*lines, *(["claims:", *counts] if counts else [])] or ["{}"]
    write_text(folder / "summary.yaml", "\n".join(said) + "\n")
