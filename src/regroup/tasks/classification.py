"""Zero-shot classification: of the classes of the source `classes` the one whose name is most like a picture.

A picture is a hit at k if its own class is among the k most similar. Classes that tie with the own one count
as more similar, so a model that tells nothing apart hits nothing. Mean class recall is the mean over classes
of top-1. Prompts: `_class_texts.Prompts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, JsonValue

from regroup.metrics import DatasetScores, Metric
from regroup.tasks import TaskResult, Work
from regroup.tasks._class_images import DATASET, ClassImages, files, recall_by_class, sources
from regroup.tasks._class_texts import Prompts, check_distinct, class_features
from regroup.tasks._ranks import ranks

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Int
    from numpy.typing import NDArray
    from torch import Tensor

    from regroup.class_folders import ClassFolders
    from regroup.model import Backbone

__all__ = ["Options", "files", "places", "run", "sources"]

KS = (1, 5)


class Options(Prompts, ClassImages):
    """Which pictures, and what the classes are called."""

    split: Literal["train", "val"] = "val"
    per_class: int | None = Field(
        default=None, ge=1, le=1_000_000, description="only the first so many of a class, by name"
    )
    chunk: int = Field(default=512, ge=1, le=1_000_000, description="rows of the similarity matrix at a time")


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Classify every picture by the names of the classes.

    Raises:
        RegroupError: there is no such split, a class is empty or without a word, two have the same, a picture
            is broken, there is no such device, or a feature of the model is not finite.
    """
    found = options.read(work, options.split, options.per_class)
    check_distinct(found.names, found.folders, options)
    features = options.features(model, found.paths, work)
    own = places(model, features, found, options, work, chunk=options.chunk)
    return _result(found, own, options, options.size or model.image_size)


def places(
    model: Backbone,
    features: Float[Tensor, "images c"],
    found: ClassFolders,
    prompts: Prompts,
    work: Work,
    *,
    chunk: int,
) -> Int[np.ndarray, " images"]:
    """The place of each picture's own class among all, from 1.

    Args:
        model: whose features they are.
        features: of the pictures, of any length.
        found: the pictures, and the words of their classes.
        prompts: how words become texts.
        work: where features of texts may be kept.
        chunk: pictures at a time.
    """
    import torch.nn.functional as F

    classes = class_features(model, found.names, prompts, store=work.features)
    positives = [(int(label),) for label in found.labels]
    counts = [1] * len(classes)
    place: Int[np.ndarray, " images"] = ranks(
        F.normalize(features.double(), dim=-1), classes, positives, counts, chunk=chunk
    ).numpy()
    return place


def _result(found: ClassFolders, own: Int[np.ndarray, " images"], options: Options, size: int) -> TaskResult:
    classes = len(found.folders)
    recall = {k: recall_by_class(own <= k, found.labels, classes) for k in KS}
    values = {f"top{k}": 100 * float((own <= k).mean()) for k in KS}
    values["mean_recall"] = float(recall[1].mean())
    chance: dict[str, JsonValue] = {f"top{k}": 100 * min(1.0, k / classes) for k in KS}
    metrics = {f"top{k}": Metric(title=f"top-{k}") for k in KS}
    protocol: dict[str, JsonValue] = {
        "name": f"class_folders_{options.split}",
        "split": options.split,
        "classes": classes,
        **options.protocol(),
        "size": size,
        "preprocessing": "short side to `size`, bicubic; square from the centre",
        "ties": "count as better",
    }
    scores = DatasetScores(
        values=values,
        images=len(own),
        protocol=protocol,
        details={"chance": {**chance, "mean_recall": chance["top1"]}, "other_files": found.others},
    )
    return TaskResult(
        main="top1",
        metrics={**metrics, "mean_recall": Metric(title="mean class recall")},
        datasets={DATASET: scores},
        files=_per_class(found, {f"top{k}": recall[k] for k in KS}),
    )


def _per_class(found: ClassFolders, recalls: dict[str, NDArray[np.float64]]) -> dict[str, bytes]:
    """A row a class: folder, word, pictures, and recalls in percent."""
    import numpy as np

    from regroup.tasks._tables import both_forms

    columns = {
        # a folder's name need not be UTF-8
        "folder": [name.encode(errors="backslashreplace").decode() for name in found.folders],
        "word": [words[0] for words in found.names],
        "images": np.bincount(found.labels, minlength=len(found.folders)),
    }
    return both_forms("per_class", {**columns, **recalls})
