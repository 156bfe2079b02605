"""Detection of one split, from files to scores."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from regroup.detection.instances import Truth, read_instances
from regroup.detection.precision import Precision, evaluate
from regroup.detection.proposals import Boxes, Detections, class_scores, detect, propose, surest
from regroup.detection.settings import ClassSplit, DetectionParams
from regroup.errors import RegroupError
from regroup.io import text_bytes
from regroup.segmentation.evaluation import inference_mode
from regroup.segmentation.images import read_image, scale_image
from regroup.segmentation.inference import EncodedImage, encode_images
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import free_prompts
from regroup.segmentation.resolved import read_ahead
from regroup.sources.mini.names import drawn_names

if TYPE_CHECKING:
    from regroup.model import Backbone


@dataclass(frozen=True)
class Scored:
    """What a model scored on one split.

    Attributes:
        classes: base and novel ones.
        precision: by class.
        images: that were scored.
        left_out: images without an object of the classes, which were not.
        crowds: boxes of crowds.
        proposals: of each image, within the limit.
        kind: `segments` or `class_map`.
    """

    classes: ClassSplit
    precision: Precision
    images: int
    left_out: int
    crowds: int
    proposals: NDArray[np.int64]
    kind: str

    def table(self) -> bytes:
        """CSV, one row a class: AP and recall in percent to two digits, empty without an object."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("class", "group", "objects", "ap50", "ap", "recall"))
        found = self.precision
        for number, name in enumerate(self.classes.classes):
            values = (found.ap50[number], found.ap[number], found.recall[number])
            told = ("" if np.isnan(value) else f"{value:.2f}" for value in values)
            group = "base" if number < len(self.classes.base) else "novel"
            writer.writerow((name, group, int(found.objects[number]), *told))
        return text_bytes(text.getvalue())


def class_split(params: DetectionParams) -> ClassSplit:
    """Base and novel classes.

    Raises:
        RegroupError: none of them is drawn, and `names` is `drawn`.
    """
    if params.names == "all":
        return params.chosen
    drawn = set(drawn_names("coco"))
    if not drawn.intersection(params.chosen.classes):
        raise RegroupError("detection: names: none of `base` and `novel` is drawn; give `names: all`")
    return params.chosen.only(drawn)


def score(
    model: Backbone,
    params: DetectionParams,
    root: Path,
    *,
    progress: bool = False,
    text_cache: Path | None = None,
) -> Scored:
    """Detect in the images that have an object of the classes, as the published test files hold them.

    Args:
        model: on its device.
        params: what and how.
        root: of COCO's raw data.
        progress: whether to show a progress bar.
        text_cache: folder of class embeddings, as `embed_prompts` keeps it.

    Raises:
        RegroupError: a file is missing or broken, or no image has an object of the classes.
    """
    classes = class_split(params)
    file, folder = root / "annotations" / f"instances_{params.split}2017.json", root / f"{params.split}2017"
    if not file.is_file():
        raise RegroupError(f"{file}: no such file; detection reads COCO's instances of its split")
    every = read_instances(file, classes.classes)
    truths = [truth for truth in every if len(truth.boxes)][: params.limit]
    if all(truth.crowd.all() for truth in truths):
        raise RegroupError(
            f"{file}: no image has an object of the {len(classes.classes)} classes (crowds apart): nothing "
            "can be detected"
        )
    kind = params.proposals or ("segments" if model.grouped else "class_map")
    found = _detections(model, params, truths, folder, classes, kind, progress, text_cache)
    precision = evaluate(
        truths,
        [one for one, _ in found],
        [boxes for _, boxes in found],
        len(classes.classes),
        params.detections,
    )
    return Scored(
        classes,
        precision,
        images=len(truths),
        left_out=sum(not len(truth.boxes) for truth in every),
        crowds=sum(int(truth.crowd.sum()) for truth in truths),
        proposals=np.array([len(boxes) for _, boxes in found]),
        kind=kind,
    )


def _detections(
    model: Backbone,
    params: DetectionParams,
    truths: Sequence[Truth],
    folder: Path,
    classes: ClassSplit,
    kind: str,
    progress: bool,
    text_cache: Path | None,
) -> list[tuple[Detections, Boxes]]:
    """Detections and proposals of each image."""
    prompts, inference = free_prompts(classes.classes, background=False), params.inference

    def read(number: int) -> tuple[tuple[int, int], Tensor]:
        truth = truths[number]
        path = folder / truth.image.file_name
        pixels = read_image(path, upright=False)  # boxes lie on the pixels as they are stored
        size = (truth.image.height, truth.image.width)
        if pixels.shape[:2] != size:
            raise RegroupError(
                f"{path}: is {pixels.shape[1]} x {pixels.shape[0]}, but is said to be {size[1]} x {size[0]}"
            )
        scaled = np.ascontiguousarray(scale_image(pixels, inference).transpose(2, 0, 1))
        return size, torch.from_numpy(scaled)

    with inference_mode(model):
        texts = embed_prompts(model, prompts.texts, text_cache)
        scale = float(model.logit_scale.exp().clamp(max=100))
        images = tqdm(read_ahead(read, len(truths)), "detection", len(truths), disable=not progress)
        encoded = encode_images(model, texts, images, inference, batch=params.batch)
        return [_of_image(image, size, params, kind, scale) for size, image in encoded]


def _of_image(
    image: EncodedImage, size: tuple[int, int], params: DetectionParams, kind: str, scale: float
) -> tuple[Detections, Boxes]:
    segment_map = image.features.segment_map[0].cpu().numpy().astype(np.int64)
    logits = image.features.logits[0].double().cpu().numpy()
    if not np.isfinite(logits).all():
        raise RegroupError("features of images are not finite: these weights cannot be scored")
    proposals = propose(
        segment_map,
        logits,
        size,
        class_map=kind == "class_map",
        components=params.components,
        min_area=params.min_area,
    )
    scores = class_scores(proposals.logits, params.score, scale)
    chosen = surest(scores, params.detections)
    boxes, scores = proposals.boxes[chosen], scores[chosen]
    return detect(boxes, scores, nms=params.nms, most=params.detections), boxes
