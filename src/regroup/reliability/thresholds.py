"""How sure class maps are, and the threshold of background: fixed, chosen on a training split, and the best.

A fixed threshold suits the checkpoint and the class list that it was found for; with others it is the first
thing to go wrong. Choosing it on a training split is honest, on the split that is scored it is an oracle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from regroup.errors import RegroupError
from regroup.metrics import DatasetScores
from regroup.reliability.calibration import Reliability
from regroup.reliability.settings import CalibrationParams
from regroup.segmentation.evaluation import decide, evaluate_decisions
from regroup.segmentation.inference import Decision, EncodedImage, class_confidence
from regroup.segmentation.resolved import ResolvedDataset
from regroup.segmentation.scores import DatasetScores as Scores

if TYPE_CHECKING:
    from pydantic import JsonValue

    from regroup.model import Backbone


@dataclass(frozen=True)
class Thresholds:
    """MIoU in percent by threshold.

    Attributes:
        fixed: the profile's threshold.
        grid: thresholds to choose from, ascending.
        train: mIoU on the training split by threshold of `grid`.
        val: mIoU on the scored split, by the same and by `fixed`.
        images: of the training split that were used.
    """

    fixed: float
    grid: tuple[float, ...]
    train: Mapping[float, float]
    val: Mapping[float, float]
    images: int

    @property
    def chosen(self) -> float:
        """The best on the training split, the smallest of equals."""
        return best_threshold(self.train)

    @property
    def best(self) -> float:
        """The best of `grid` on the scored split itself."""
        return best_threshold({threshold: self.val[threshold] for threshold in self.grid})


@dataclass(frozen=True)
class Calibration:
    """What is known of one dataset; no thresholds without a background."""

    scores: Scores
    reliability: Reliability
    thresholds: Thresholds | None

    def for_metrics(self) -> DatasetScores:
        """Values, and in `details` the reliability table and the curves over thresholds."""
        found = self.reliability
        values = {"ece": found.ece, "confidence": found.confidence, "accuracy": found.accuracy}
        details: dict[str, JsonValue] = {
            "scored_pixels": found.pixels,
            "reliability": [one._asdict() for one in found.table()],
        }
        if (tried := self.thresholds) is not None:
            named = {"fixed": tried.fixed, "chosen": tried.chosen, "best": tried.best}
            values |= {f"miou_{name}": tried.val[threshold] for name, threshold in named.items()}
            values |= {f"threshold_{name}": threshold for name, threshold in named.items()}
            details["train_images"] = tried.images
            details["thresholds"] = [
                {"threshold": threshold, "train": tried.train.get(threshold), "val": miou}
                for threshold, miou in sorted(tried.val.items())
            ]
        return DatasetScores(
            values=values,
            images=self.scores.images,
            protocol={**self.scores.protocol, "confidence": "share of all classes' logits, background apart"},
            details=details,
        )


def best_threshold(miou: Mapping[float, float]) -> float:
    """The threshold of the highest mIoU, the smallest of equals."""
    return min(miou, key=lambda threshold: (-miou[threshold], threshold))


def calibrate(
    model: Backbone,
    dataset: ResolvedDataset,
    params: CalibrationParams,
    *,
    progress: bool = False,
    text_cache: Path | None = None,
) -> Calibration:
    """Score a model's confidence, and with a background its thresholds, encoding every image once.

    Confidence is counted where a class other than background is shown.

    Raises:
        RegroupError: as `evaluate`, of either split; or no pixel shows such a class.
    """

    def run(
        some: ResolvedDataset, thresholds: Sequence[float], reliability: Reliability | None
    ) -> list[Scores]:
        def watch(one: ResolvedDataset, mask: Tensor, encoded: EncodedImage) -> None:
            if reliability is not None:
                _count(reliability, mask, encoded, one, params.top_k)

        return evaluate_decisions(
            model,
            some,
            params,
            [Decision(threshold, params.top_k) for threshold in thresholds],
            batch=params.batch,
            progress=progress,
            title=f"{some.name} {some.split}",
            text_cache=text_cache,
            watch=watch,
        )

    reliability = Reliability(params.bins)
    fixed, grid = decide(dataset, params).threshold, tuple(sorted(params.thresholds))
    choosing = dataset.protocol.background and bool(grid)
    tried = sorted({*grid, fixed}) if choosing else [fixed]
    scored = dict(zip(tried, run(dataset, tried, reliability), strict=True))
    if not reliability.pixels:
        where = dataset.protocol.path(dataset.root, dataset.protocol.labels, dataset.split)
        raise RegroupError(
            f"{where}: no pixel shows a class other than background: nothing can be calibrated"
        )
    if not choosing:
        return Calibration(scored[fixed], reliability, None)
    train = replace(dataset.on("train"), limit=params.images)
    on_train = run(train, grid, None)
    thresholds = Thresholds(
        fixed,
        grid,
        {threshold: one.miou for threshold, one in zip(grid, on_train, strict=True)},
        {threshold: one.miou for threshold, one in scored.items()},
        on_train[0].images,
    )
    return Calibration(scored[fixed], reliability, thresholds)


def _count(
    reliability: Reliability, mask: Tensor, encoded: EncodedImage, dataset: ResolvedDataset, top_k: int
) -> None:
    protocol = dataset.protocol
    shown = mask != protocol.ignored
    if protocol.background:
        shown &= mask != 0
    if shown.any():
        ids, confidence = class_confidence(encoded, dataset.prompts, top_k, (mask.shape[0], mask.shape[1]))
        reliability.add(confidence[shown], (ids == mask)[shown])
