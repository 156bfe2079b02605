"""Semantic segmentation without masks in training: mIoU on every dataset of the profile (section 5.2)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from regroup.metrics import MIOU, miou_metrics
from regroup.segmentation.settings import EvaluateParams as Options
from regroup.tasks import TaskResult, Work

if TYPE_CHECKING:
    from regroup.model import Backbone

__all__ = ["Options", "files", "run", "sources", "validating"]


def sources(options: Options) -> Iterable[str]:
    """The raw data of its datasets."""
    return (dataset.source for dataset in options.datasets.values())


def files(options: Options) -> Iterable[Path]:
    """The class lists of its protocols, and the readers of their masks, which are found by name."""
    from regroup.segmentation.protocols import files_behind

    return files_behind(dataset.protocol for dataset in options.datasets.values())


def validating(options: Options) -> Options | None:
    """The first images of some of the datasets."""
    if not options.validation.datasets:
        return None
    chosen = {
        name: options.datasets[name].model_copy(update={"limit": options.validation.images})
        for name in options.validation.datasets
    }
    return options.model_copy(update={"datasets": chosen})


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Score a model on every dataset.

    Raises:
        RegroupError: a file is missing or broken, a mask does not fit its image or the class list; or there
            is no such device.
    """
    from regroup.segmentation.evaluation import evaluate_all

    scores = evaluate_all(
        model,
        options,
        work.roots,
        progress=work.progress,
        text_cache=work.text_cache,
        token_cache=work.token_cache if options.reuse_stage_one else None,
    )
    return TaskResult(
        main=MIOU,
        metrics=miou_metrics(boundary=options.boundary is not None),
        datasets={name: one.for_metrics() for name, one in scores.datasets.items()},
        files=scores.files(),
    )
