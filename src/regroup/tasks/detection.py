"""Open-vocabulary detection on COCO by a model's own segments: AP of base and novel classes, proposal recall.

Proposals know no class: they are boxes of segments, each scored against all classes at once (the generalised
setting). A few segments an image, and no box that is ever regressed, are a low ceiling on AP, so the recall
of the proposals stands beside it: no classifier could find what no proposal covers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from regroup.detection import settings
from regroup.detection.settings import SPLIT
from regroup.detection.settings import DetectionParams as Options
from regroup.metrics import DatasetScores, Metric
from regroup.tasks import TaskResult, Work

if TYPE_CHECKING:
    from pydantic import JsonValue

    from regroup.detection.scoring import Scored
    from regroup.model import Backbone

__all__ = ["Options", "files", "run", "sources"]

MAIN = "ap50"
_TITLES = {"ap50": "AP50", "ap": "AP", "recall": "proposal recall"}


def sources(_: Options) -> Iterable[str]:
    """COCO's images and instances."""
    return ("coco",)


def files(_: Options) -> Iterable[Path]:
    """The published classes; and the settings, which say how large an image is encoded."""
    return SPLIT, Path(settings.__file__)


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Detect, and score boxes and proposals.

    A metric of a group of classes that no image shows is left out.

    Raises:
        RegroupError: instances or images are missing or broken, no image has an object of the classes, there
            is no such device, or a feature of the model is not finite.
    """
    from regroup.detection.scoring import score
    from regroup.device import choose_device

    model.to(choose_device(options.device))
    found = score(model, options, work.roots["coco"], progress=work.progress, text_cache=work.text_cache)
    base = len(found.classes.base)
    groups = {"": range(len(found.classes.classes)), "_base": range(base)}
    groups["_novel"] = range(base, len(found.classes.classes))
    metrics, values = {}, {}
    for group, chosen in groups.items():
        summary = found.precision.summary(chosen) or {}
        for name, title in _TITLES.items():
            metrics[name + group] = Metric(title=f"{title} {group[1:]}".strip())
            if name in summary:
                values[name + group] = summary[name]
    scores = DatasetScores(
        values=values, images=found.images, protocol=_protocol(options, found), details=_details(found)
    )
    return TaskResult(MAIN, metrics, {"coco": scores}, {"ap_per_class.csv": found.table()})


def _protocol(options: Options, found: Scored) -> dict[str, JsonValue]:
    own = options.base is not None or options.novel is not None
    return {
        "name": f"coco_{len(found.classes.base)}_{len(found.classes.novel)}_{options.split}",
        "split": options.split,
        "classes": "of this profile" if own else "48 base and 17 novel of Bansal et al. and OVR-CNN",
        "names": options.names,
        "setting": "generalised: base and novel classes compete",
        "images": "those with an object of the classes",
        "proposals": found.kind,
        **{
            key: getattr(options, key)
            for key in ("components", "min_area", "score", "nms", "detections", "short_side", "long_side")
        },
    }


def _details(found: Scored) -> Mapping[str, JsonValue]:
    objects = found.precision.objects
    base = len(found.classes.base)
    return {
        "objects": int(objects.sum()),
        "crowds": found.crowds,
        "images_without_objects": found.left_out,
        "base_classes_shown": int((objects[:base] > 0).sum()),
        "novel_classes_shown": int((objects[base:] > 0).sum()),
        "proposals_per_image": float(found.proposals.mean()),
        "images_without_proposals": int((found.proposals == 0).sum()),
    }
