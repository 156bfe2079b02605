"""Scores for people, `dvc metrics`, `dvc plots` and `regroup verify`: a summary, and all runs in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from regroup.drawing.grid import csv_text
from regroup.io import write_text
from regroup.report.comparison import Verdict
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


def write_summary(
    metrics: Path, variant: str | None, verdicts: Mapping[Verdict, int], folder: Path, *, profile: str
) -> None:
    """Write `summary.yaml`: what one variant scores, and how many of the thesis's claims hold.

    Few enough numbers for one line of `dvc metrics show` and `dvc exp show`. A variant that was not scored is
    left out.

    Args:
        metrics: folder of the metrics files.
        variant: the variant, usually the study's final one; None: none is.
        verdicts: number of claims by verdict; empty where the study has none.
        folder: gets the file.
        profile: name of the profile.

    Raises:
        RegroupError: a metrics file that is malformed or of another profile.
    """
    file = metrics / f"{variant}.json"
    found = read_metrics(file, profile=profile).datasets if variant is not None and file.is_file() else {}
    lines = [f"{json.dumps(dataset)}: {rounded(found[dataset].miou)}" for dataset in found]
    counts = [f"  {verdict.replace(' ', '_')}: {count}" for verdict, count in verdicts.items()]
    said = [*lines, *(["claims:", *counts] if counts else [])] or ["{}"]
    write_text(folder / "summary.yaml", "\n".join(said) + "\n")
