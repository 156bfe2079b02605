"""mIoU of one model on one dataset as images get smaller, larger or worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regroup.metrics import DatasetScores
from regroup.reliability.corruptions import Corruption, corruption
from regroup.reliability.settings import RobustnessParams
from regroup.segmentation.evaluation import evaluate
from regroup.segmentation.resolved import ResolvedDataset
from regroup.segmentation.scores import DatasetScores as Scores
from regroup.segmentation.settings import InferenceParams

if TYPE_CHECKING:
    from regroup.model import Backbone


@dataclass(frozen=True)
class Robustness:
    """MIoU in percent.

    Attributes:
        clean: scores of the images as they are, at the usual size.
        corrupted: by kind and level.
        sizes: by percent of the usual size.
    """

    clean: Scores
    corrupted: Mapping[tuple[Corruption, int], float]
    sizes: Mapping[int, float]

    def for_metrics(self) -> DatasetScores:
        """Values, and in `details` the same by kind and level and by size, for curves."""
        values = {"miou": self.clean.miou}
        values |= {f"miou_{kind}_{level}": miou for (kind, level), miou in self.corrupted.items()}
        values |= {f"miou_size_{size}": miou for size, miou in self.sizes.items()}
        if self.corrupted:
            values["miou_corrupted"] = float(np.mean(list(self.corrupted.values())))
            if self.clean.miou > 0:
                values["kept"] = values["miou_corrupted"] / self.clean.miou
        by_kind: dict[str, dict[str, float]] = {}
        for (kind, level), miou in self.corrupted.items():
            by_kind.setdefault(kind, {})[str(level)] = miou
        return DatasetScores(
            values=values,
            images=self.clean.images,
            protocol=dict(self.clean.protocol),
            details={
                "corruptions": {kind: {**levels} for kind, levels in by_kind.items()},
                "sizes": {str(size): miou for size, miou in self.sizes.items()},
            },
        )


def measure(
    model: Backbone,
    dataset: ResolvedDataset,
    params: RobustnessParams,
    *,
    progress: bool = False,
    text_cache: Path | None = None,
) -> Robustness:
    """Score a model on a dataset once for each corruption, level and size, and once as it is.

    Raises:
        RegroupError: as `evaluate`.
    """

    def scores(some: ResolvedDataset, inference: InferenceParams, title: str) -> Scores:
        return evaluate(
            model,
            some,
            inference,
            batch=params.batch,
            progress=progress,
            text_cache=text_cache,
            title=f"{dataset.name} {title}",
        )

    clean = scores(dataset, params, "clean")
    corrupted = {
        (kind, level): scores(
            dataset.changed(corruption(kind, level, params.seed)), params, f"{kind} {level}"
        ).miou
        for kind in params.corruptions
        for level in params.levels
    }
    sizes = {
        size: clean.miou if size == 100 else scores(dataset, params.at(size), f"size {size}%").miou
        for size in params.sizes
    }
    return Robustness(clean, corrupted, sizes)
