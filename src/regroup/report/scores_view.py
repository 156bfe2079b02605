"""Scores for people, `dvc metrics`, `dvc plots` and `regroup verify`: a summary, and all runs in one file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from regroup.drawing.grid import csv_text
from regroup.io import write_text
from regroup.metrics import METRICS, MIOU, SEGMENTATION, Metrics, metrics_files, read_metrics
from regroup.report.columns import DATASET_TITLES
from regroup.report.comparison import Verdict
from regroup.report.scores import rounded


def write_scores(
    metrics: Path, tasks: Sequence[str], names: Sequence[str], folder: Path, *, profile: str
) -> None:
    """Write `scores.csv` from the metrics files of some variants, a line for each of their runs.

    A column is called as in tables: a dataset for its mIoU, then the other tasks' percentages as
    `task/metric/dataset`; `seed` is empty where nothing was trained. Two decimals, as in the tables; runs
    without a file are left out, and what a run was not scored on is empty. Datasets of one's own come after
    the thesis's.

    Args:
        metrics: folder of the metrics files, as `metrics_files` lists them in `<task>/<variant>`.
        tasks: names of evaluations.
        names: of variants.
        folder: gets the file.
        profile: name of the profile.

    Raises:
        RegroupError: a metrics file that is malformed or of another profile.
    """
    scores: dict[tuple[str, int | None], dict[str, float]] = {}
    for name in names:
        for task in tasks:
            for file in metrics_files(metrics / task / name):
                if file.is_file():
                    found = read_metrics(file, profile=profile)
                    some = {key: float(rounded(value)) for key, value in _percentages(found)}
                    scores.setdefault((name, found.seed), {}).update(some)
    every = dict.fromkeys((*DATASET_TITLES, *(key for values in scores.values() for key in values)))
    columns = sorted(every, key=lambda key: "/" in key)  # mIoU of all datasets first
    lines = [["variant", "seed", *columns]]
    lines += [
        [name, "" if seed is None else str(seed), *(str(values.get(key, "")) for key in columns)]
        for (name, seed), values in scores.items()
        if values
    ]
    write_text(folder / "scores.csv", csv_text(lines))


def _percentages(found: Metrics) -> Iterator[tuple[str, float]]:
    """Columns and values of one run's metrics on one task."""
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
    """Write `summary.yaml`: the mIoU of one variant's first seed, and how many of the thesis's claims hold.

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
    file = None if variant is None else metrics / SEGMENTATION / variant / METRICS
    found = _percentages(read_metrics(file, profile=profile)) if file and file.is_file() else ()
    lines = [f"{json.dumps(dataset)}: {rounded(value)}" for dataset, value in found]
    counts = [f"  {verdict.replace(' ', '_')}: {count}" for verdict, count in verdicts.items()]
    said = [*lines, *(["claims:", *counts] if counts else [])] or ["{}"]
    write_text(folder / "summary.yaml", "\n".join(said) + "\n")
