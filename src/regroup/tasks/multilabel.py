"""Multi-label classification of COCO's images: mean average precision over the categories that occur.

Each category ranks all images by the similarity of its name; what is to be found are the images that have an
annotation of it, crowds included. An image without any is a negative of every category. For those who have no
ImageNet: COCO's validation images and 80 categories are enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, JsonValue

from regroup.errors import RegroupError
from regroup.metrics import DatasetScores, Metric
from regroup.settings import Pixels
from regroup.tasks import TaskResult, Work
from regroup.tasks._class_texts import Prompts, class_features
from regroup.tasks._ranks import same_text
from regroup.texts import text_problem

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float

    from regroup.model import Backbone
    from regroup.records import Faults, ImageRecord


class Options(Prompts):
    """Which images, and what the categories are called in."""

    split: Literal["train", "val"] = "val"
    limit: int | None = Field(
        default=None, ge=1, le=100_000_000, description="only the first so many images, by id"
    )
    size: Pixels | None = Field(default=None, description="side of the images; null: the model's own")
    batch: int = Field(default=64, ge=1, le=65_536, description="images in a pass of the model")
    device: Literal["auto", "cpu", "cuda"] = "auto"


def sources(_: Options) -> Iterable[str]:
    """COCO's images and instances."""
    return ("coco",)


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Rank all images by each category's name.

    Raises:
        RegroupError: the annotations are missing or broken or no category occurs, an image is missing or
            broken, there is no such device, or a feature of the model is not finite.
    """
    import torch.nn.functional as F

    from regroup.device import choose_device
    from regroup.features import image_features

    model.to(choose_device(options.device))
    root = work.roots["coco"]
    file = root / "annotations" / f"instances_{options.split}2017.json"
    images, categories, shown = read_presence(file, options.limit)
    size, folder = options.size or model.image_size, root / f"{options.split}2017"
    features = image_features(
        model,
        [folder / image.file_name for image in images],
        size=size,
        batch=options.batch,
        store=work.features,
        progress=work.progress,
    )
    names = [(name,) for name in categories.values()]
    texts = class_features(model, names, options, store=work.features)
    scores = F.normalize(features.double(), dim=-1) @ texts.T
    return _result(categories, shown, scores.numpy(), options, size)


def read_presence(
    file: Path, limit: int | None
) -> tuple[tuple[ImageRecord, ...], dict[int, str], Bool[np.ndarray, "images categories"]]:
    """Images by id, categories by id, and which image shows which.

    Args:
        file: COCO's instances of a split.
        limit: only the first so many images.

    Raises:
        RegroupError: names the file and the entries at fault; or no category occurs in an image.
    """
    import numpy as np

    from regroup.records import Faults, image_records, read_document

    if not file.is_file():
        raise RegroupError(f"{file}: no such file; multi-label scores read COCO's instances of their split")
    document = read_document(file, "COCO instances file", "images", "annotations", "categories")
    faults = Faults(file)
    every = image_records(document["images"], faults)
    categories = _categories(document["categories"], faults)
    faults.check()
    images = tuple(every[number] for number in sorted(every))[:limit]
    row = {image.id: place for place, image in enumerate(images)}
    column = {number: place for place, number in enumerate(categories)}
    shown = np.zeros((len(images), len(categories)), dtype=bool)
    for place, entry in enumerate(document["annotations"]):
        image, category = _pair(entry)
        if image not in every:
            faults.add(f"annotations[{place}].image_id", f"there is no image {image}", entry)
        elif category not in column:
            faults.add(f"annotations[{place}].category_id", f"there is no category {category}", entry)
        elif image in row:
            shown[row[image], column[category]] = True
    faults.check()
    if not shown.any():
        raise RegroupError(f"{file}: no category occurs in an image: there is nothing to find")
    return images, categories, shown


def _pair(entry: Any) -> tuple[Any, Any]:
    """Image and category of an annotation, whatever it holds."""
    values = [entry.get(key) if isinstance(entry, dict) else None for key in ("image_id", "category_id")]
    image, category = (value if type(value) is int else None for value in values)
    return image, category


def _categories(entries: list[Any], faults: Faults) -> dict[int, str]:
    from regroup.records import wrong

    found: dict[int, str] = {}
    called: set[str] = set()
    for place, entry in enumerate(entries):
        bad = wrong(entry, "id", int) or wrong(entry, "name", str)
        if bad is not None:
            faults.add(f"categories[{place}]", f"its id or name {bad}", entry)
        elif not entry["name"].strip():
            faults.add(f"categories[{place}].name", "is empty", entry)
        elif problem := text_problem(entry["name"]):
            faults.add(f"categories[{place}].name", problem, entry)
        elif entry["id"] in found:
            faults.add(f"categories[{place}].id", f"category id {entry['id']} comes twice")
        elif same_text(entry["name"]) in called:  # each would count the other's images as wrong
            faults.add(f"categories[{place}].name", f"{entry['name']!r} is another category's too", entry)
        else:
            called.add(same_text(entry["name"]))
            found[entry["id"]] = entry["name"]
    return dict(sorted(found.items()))


def _result(
    categories: dict[int, str],
    shown: Bool[np.ndarray, "images categories"],
    scores: Float[np.ndarray, "images categories"],
    options: Options,
    size: int,
) -> TaskResult:
    """Average precision of each category that occurs, and the mean of them."""
    from regroup.tasks._average_precision import average_precision, chance

    images, counts = len(shown), shown.sum(axis=0).tolist()
    occur = [place for place, count in enumerate(counts) if count]
    precisions = [100 * average_precision(scores[:, place], shown[:, place]) for place in occur]
    random = [100 * chance(counts[place], images) for place in occur]
    protocol: dict[str, JsonValue] = {
        "name": f"coco_instances_{options.split}",
        "split": options.split,
        "categories": len(categories),
        **options.protocol(),
        "size": size,
        "preprocessing": "short side to `size`, bicubic; square from the centre",
        "positives": "images with an annotation of the category, crowds included",
        "mean": "over the categories that occur",
    }
    details: dict[str, JsonValue] = {
        "chance": {"map": math.fsum(random) / len(occur)},
        "prevalence": 100 * math.fsum(counts) / len(occur) / images,
        "categories_that_occur": len(occur),
        "images_without_category": int((~shown.any(axis=1)).sum()),
    }
    scored = DatasetScores(
        values={"map": math.fsum(precisions) / len(occur)}, images=images, protocol=protocol, details=details
    )
    names = list(categories.values())
    rows = [(names[place], counts[place], ap) for place, ap in zip(occur, precisions, strict=True)]
    return TaskResult("map", {"map": Metric(title="mAP")}, {"coco": scored}, _per_class(rows, random))


def _per_class(rows: list[tuple[str, int, float]], random: list[float]) -> dict[str, bytes]:
    """A row a category that occurs, as Parquet and for people; percent."""
    from regroup.tasks._tables import both_forms

    names, counts, precisions = zip(*rows, strict=True)
    return both_forms(
        "per_class",
        {"category": names, "images": counts, "average_precision": precisions, "chance": random},
    )
