"""Scores of all runs in one file, for people, `dvc plots` and `regroup verify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from regroup.io import write_text
from regroup.report.grid import csv_text
from regroup.report.reference import DATASET_TITLES
from regroup.report.scores import read_metrics
from regroup.report.tables import rounded


def write_scores(metrics: Path, names: Sequence[str], folder: Path, *, profile: str) -> None:
    """Write `scores.csv` from the metrics files of some runs.

    The values are mIoU in percent, with two decimals as in the tables; runs without a file are left out, and
    datasets a run was not scored on are empty. Datasets of one's own come last.

    Raises:
        RegroupError: a metrics file that is malformed or of another profile.
    """
    scores: dict[str, Mapping[str, float]] = {}
    for name in names:
        if (file := metrics / f"{name}.json").is_file():
            found = read_metrics(file, profile=profile).datasets
            order = dict.fromkeys((*DATASET_TITLES, *found))
            scores[name] = {
                dataset: float(rounded(found[dataset].miou)) for dataset in order if dataset in found
            }
    columns = list(dict.fromkeys((*DATASET_TITLES, *(key for values in scores.values() for key in values))))
    lines = [["variant", *columns]]
    lines += [[name, *(str(values.get(key, "")) for key in columns)] for name, values in scores.items()]
    write_text(folder / "scores.csv", csv_text(lines))
