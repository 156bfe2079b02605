"""mIoU of the segmentation protocols over image size and over corruptions in fixed strengths.

Users' images are not those of a benchmark: over-exposed, blurred, noisy, compressed, of another size.
Corruptions are applied to the decoded image before it is scaled (`regroup.reliability.corruptions` has their
strengths).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from regroup.metrics import Metric
from regroup.reliability import settings
from regroup.reliability.settings import RobustnessParams as Options
from regroup.tasks import TaskResult, Work

if TYPE_CHECKING:
    from regroup.model import Backbone

__all__ = ["Options", "files", "run", "sources"]

MAIN = "miou_corrupted"


def sources(options: Options) -> Iterable[str]:
    """The raw data of its datasets."""
    return (dataset.source for dataset in options.datasets.values())


def files(options: Options) -> Iterable[Path]:
    """The class lists of its protocols, the readers of their masks; the settings, which make other sizes."""
    from regroup.segmentation.protocols import files_behind

    behind = files_behind(dataset.protocol for dataset in options.datasets.values())
    return *behind, Path(settings.__file__)


def metrics(options: Options) -> dict[str, Metric]:
    """Titles and units. `kept` is what corruption leaves of the clean mIoU, and may be above 1."""
    named = {"miou": "mIoU"}
    named |= {
        f"miou_{kind}_{level}": f"mIoU, {kind} {level}"
        for kind in options.corruptions
        for level in options.levels
    }
    named |= {f"miou_size_{size}": f"mIoU at {size}% size" for size in options.sizes}
    found = {name: Metric(title=title) for name, title in named.items()}
    if options.corruptions:
        found[MAIN] = Metric(title="mIoU, corrupted")
        found["kept"] = Metric(title="share kept", unit="ratio")
    return found


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Score a model on every dataset; `kept` is left out where the clean mIoU is 0.

    Raises:
        RegroupError: as the task `segmentation`.
    """
    from regroup.device import choose_device
    from regroup.reliability.robustness import measure
    from regroup.segmentation.resolved import resolve_datasets

    model.to(choose_device(options.device))
    datasets = resolve_datasets(options.datasets, work.roots)
    found = {
        name: measure(model, one, options, progress=work.progress, text_cache=work.text_cache).for_metrics()
        for name, one in datasets.items()
    }
    return TaskResult(MAIN if options.corruptions else "miou", metrics(options), found)
