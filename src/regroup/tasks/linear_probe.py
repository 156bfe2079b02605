"""Linear probe: logistic regression on frozen features of `train`, scored on `val`, of the source `classes`.

C is chosen (`_probe`) on a part of each class of `train`; then the probe is trained on all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, JsonValue

from regroup.errors import RegroupError, shortlist
from regroup.metrics import DatasetScores, Metric
from regroup.settings import Seed
from regroup.tasks import TaskResult, Work
from regroup.tasks._class_images import DATASET, files, recall_by_class, sources
from regroup.tasks._probe import (
    Choice,
    Probe,
    Samples,
    check_several,
    choose,
    fit,
    order_of,
    predicted,
    solving,
)

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Int

    from regroup.class_folders import ClassFolders
    from regroup.model import Backbone

__all__ = ["Options", "files", "run", "sources", "validation_rows"]


class Options(Probe):
    """What the probe is trained on."""

    seed: Seed = 0
    validation: float = Field(
        default=0.2, gt=0, lt=1, description="share of each class of `train` that C is chosen on"
    )
    per_class: int | None = Field(
        default=None, ge=2, le=1_000_000, description="only the first so many of a class of `train`, by name"
    )


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Train a probe and score it.

    Raises:
        RegroupError: a split is missing, the splits have other classes, there is one class alone or a class
            has one picture in `train`, a picture is broken, there is no such device, or a feature is not
            finite.
    """
    train, val = options.read_both(work, options.per_class)
    check_several(train)
    held = validation_rows(train, options.validation, options.seed)
    scaled = options.scaled(*(options.features(model, some.paths, work).numpy() for some in (train, val)))
    samples, test = Samples(scaled[0], train.labels), Samples(scaled[1], val.labels)
    with solving():
        choice = choose(samples.at((~held).nonzero()[0]), samples.at(held.nonzero()[0]), options)
        probe, converged = fit(samples, choice.c, options.max_iter)
        found = predicted(probe, test.features)
    return _result(train, val, found, choice, converged, options, options.size or model.image_size)


def validation_rows(train: ClassFolders, share: float, seed: int) -> Bool[np.ndarray, " n"]:
    """Which pictures C is chosen on: a share of each class, one at least, and never all.

    Raises:
        RegroupError: a class has one picture.
    """
    import numpy as np

    counts = np.bincount(train.labels, minlength=len(train.folders)).tolist()
    if single := [folder for folder, n in zip(train.folders, counts, strict=True) if n < 2]:
        raise RegroupError(
            f"train: classes with one picture: {shortlist(single, 5)}; the probe trains on one and chooses C "
            "on another, so a class needs two"
        )
    held = np.zeros(len(train.labels), dtype=bool)
    start = 0
    for folder, count in zip(train.folders, counts, strict=True):
        taken = min(count - 1, max(1, round(share * count)))
        held[start + order_of(folder, count, seed)[:taken]] = True
        start += count
    return held


def _result(
    train: ClassFolders,
    val: ClassFolders,
    found: Int[np.ndarray, " n"],
    choice: Choice,
    converged: bool,
    options: Options,
    size: int,
) -> TaskResult:
    classes = len(val.folders)
    right = found == val.labels
    recall = recall_by_class(right, val.labels, classes)
    protocol: dict[str, JsonValue] = {
        "name": "linear_probe",
        "classes": classes,
        "train_images": len(train.paths),
        "features": "of unit length" if options.normalise else "as the model gives them",
        "size": size,
        "preprocessing": "short side to `size`, bicubic; square from the centre",
        "c": "chosen on a part of train, then trained on all of it",
    }
    details: dict[str, JsonValue] = {
        "chance": {"top1": 100 / classes, "mean_recall": 100 / classes},
        "c": choice.c,
        "validation_top1": choice.accuracy,
        "fits": choice.fits + 1,
        "unconverged": choice.unconverged + (not converged),
        "converged": converged,
    }
    values = {"top1": 100 * float(right.mean()), "mean_recall": float(recall.mean())}
    scores = DatasetScores(values=values, images=len(right), protocol=protocol, details=details)
    metrics = {"top1": Metric(title="top-1"), "mean_recall": Metric(title="mean class recall")}
    return TaskResult("top1", metrics, {DATASET: scores})
