"""The task `detection`: from a COCO folder to base and novel scores."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regroup.backbones.clip.config import ClipConfig, ClipImageConfig
from regroup.backbones.clip.network import Clip
from regroup.detection.instances import read_instances
from regroup.detection.precision import evaluate
from regroup.detection.scoring import _of_image
from regroup.detection.settings import DetectionParams, published_split
from regroup.errors import RegroupError
from regroup.model import GroupViT, TextConfig
from regroup.segmentation.inference import EncodedImage
from regroup.segmentation.protocols import load_protocol
from regroup.segmentation.windows import Box, WindowFeatures
from regroup.tasks import Work, evaluation
from tests.telling import small_telling_model

NAMES = {1: "person", 3: "car", 17: "cat", 18: "dog", 50: "spoon", 13: "stop sign"}
OPTIONS = {"short_side": 40, "long_side": 200, "base": ["person", "car", "spoon"], "novel": ["cat", "dog"]}


@pytest.fixture(scope="module")
def model() -> GroupViT:
    return small_telling_model(image_size=32, groups=(16, 8))


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Five images: two with objects, one with a crowd alone, one with a class of no group, one with none."""
    root = tmp_path / "coco"
    (root / "val2017").mkdir(parents=True)
    (root / "annotations").mkdir()
    images = []
    for number, (height, width) in enumerate(((40, 60), (61, 33), (32, 32), (20, 90), (50, 50)), start=1):
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height)).save(root / "val2017" / f"{number}.png")
    objects = [
        (1, 1, [0, 0, 60, 40], 0),
        (1, 18, [5, 5, 20.5, 30], 0),
        (2, 17, [0, 0, 33, 30], 0),
        (3, 3, [2, 2, 20, 20], 1),
        (4, 13, [0, 0, 10, 10], 0),
    ]
    annotations = [
        {"id": k, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
        for k, (image, category, box, crowd) in enumerate(objects)
    ]
    write(root, images, annotations)
    return root


def write(root: Path, images: list[Any], annotations: list[Any]) -> None:
    categories = [{"id": number, "name": name} for number, name in NAMES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations/instances_val2017.json").write_text(json.dumps(content))


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> None:
    file = root / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_the_published_split_is_48_and_17_of_cocos_classes() -> None:
    split = published_split()
    assert (len(split.base), len(split.novel), len(set(split.classes))) == (48, 17, 65)
    assert set(split.classes) < set(load_protocol("coco_object_instances").classes)


def test_a_model_is_scored_from_files(model: GroupViT, coco: Path) -> None:
    found = evaluation("detection", OPTIONS).run(model, Work({"coco": coco}))
    scores = found.datasets["coco"]
    assert scores.images == 3
    assert scores.protocol["name"] == "coco_3_2_val"
    assert scores.protocol["proposals"] == "segments"
    details = scores.details
    assert (details["objects"], details["crowds"], details["images_without_objects"]) == (3, 1, 2)
    assert (details["base_classes_shown"], details["novel_classes_shown"]) == (1, 2)
    rows = {
        row["class"]: row for row in csv.DictReader(io.StringIO(found.files["ap_per_class.csv"].decode()))
    }
    assert [row["group"] for row in rows.values()] == ["base"] * 3 + ["novel"] * 2
    assert rows["car"]["ap50"] == rows["spoon"]["recall"] == ""
    values = scores.values
    assert values["ap50_base"] == pytest.approx(float(rows["person"]["ap50"]), abs=0.01)
    novel = [float(rows[name]["ap50"]) for name in ("cat", "dog")]
    assert values["ap50_novel"] == pytest.approx(np.mean(novel), abs=0.01)
    assert values["ap50"] == pytest.approx((values["ap50_base"] + 2 * values["ap50_novel"]) / 3)
    assert set(values) == set(found.metrics)
    assert found.metrics["ap50_novel"].title == "AP50 novel"
    assert found.metrics["recall"].title == "proposal recall"


def test_the_whole_image_is_a_proposal_of_a_model_that_sees_one_segment(coco: Path) -> None:
    """A person as large as the image is covered, the others are not."""
    alone = small_telling_model(image_size=32, groups=(4, 1))
    values = evaluation("detection", OPTIONS).run(alone, Work({"coco": coco})).datasets["coco"].values
    assert values["recall_base"] == 100
    assert values["recall_novel"] == 0
    assert values["recall"] == pytest.approx(100 / 3)


def test_batches_change_nothing(model: GroupViT, coco: Path) -> None:
    one, other = (
        evaluation("detection", {**OPTIONS, "batch": batch}).run(model, Work({"coco": coco}))
        for batch in (1, 4)
    )
    assert one == other


def test_a_group_without_an_object_has_no_value(model: GroupViT, coco: Path) -> None:
    options = {**OPTIONS, "base": ["car", "person"], "novel": ["spoon"]}
    found = evaluation("detection", options).run(model, Work({"coco": coco}))
    assert "ap50_novel" in found.metrics
    assert "ap50_novel" not in found.datasets["coco"].values
    assert "ap50_base" in found.datasets["coco"].values


def test_a_limit_is_of_images_with_objects(model: GroupViT, coco: Path) -> None:
    scores = (
        evaluation("detection", {**OPTIONS, "limit": 1}).run(model, Work({"coco": coco})).datasets["coco"]
    )
    assert (scores.images, scores.details["objects"]) == (1, 2)


def test_patches_without_groups_are_taken_together_by_class(coco: Path) -> None:
    config = ClipConfig(
        ClipImageConfig(image_size=64, patch_size=8, width=32, heads=2, depth=2),
        TextConfig(vocabulary=49408, context=16, width=32, depth=1, heads=2),
        joint_width=16,
    )
    clip = Clip(config, generator=torch.Generator().manual_seed(0)).eval()
    found = evaluation("detection", OPTIONS).run(clip, Work({"coco": coco})).datasets["coco"]
    assert found.protocol["proposals"] == "class_map"
    # a patch each is a proposal where that is asked for
    options = {**OPTIONS, "proposals": "segments", "min_area": 0, "limit": 1}
    found = evaluation("detection", options).run(clip, Work({"coco": coco})).datasets["coco"]
    assert found.details["proposals_per_image"] == 5 * 8


@pytest.mark.parametrize("nms", [0.5, None])
def test_segments_that_are_the_objects_find_all(coco: Path, nms: float | None) -> None:
    """Segment maps drawn from the boxes; what is between them is of no class, and so last."""
    classes = ["person", "car", "cat"]
    edit(coco, lambda content: content.update(annotations=[
        {"id": 10 * image + k, "image_id": image, "category_id": category, "bbox": box}
        for image in range(1, 6)
        for k, (category, box) in enumerate(((1, [2, 2, 8, 6]), (3, [14, 5, 6, 7]), (1, [15, 15, 5, 4])))
    ]))  # fmt: skip
    truths = read_instances(coco / "annotations/instances_val2017.json", classes)
    params = DetectionParams(nms=nms, min_area=0)
    found = []
    for truth in truths:
        size = (truth.image.height, truth.image.width)
        segment_map = torch.zeros(1, 2 * size[0], 2 * size[1], dtype=torch.uint8)
        logits = torch.zeros(1, 8, 3)
        for left, top, right, bottom in truth.boxes.astype(int):
            segment_map[0, 2 * top : 2 * bottom, 2 * left : 2 * right] = 1 + int(top == 5)
        logits[0, 1, 0] = logits[0, 2, 1] = 9
        box = Box(0, 2 * size[0], 0, 2 * size[1])
        encoded = EncodedImage(
            *segment_map.shape[1:], (box,), WindowFeatures(segment_map, logits, logits[:, 0])
        )
        found.append(_of_image(encoded, size, params, "segments", 10.0))
    assert all(len(boxes) == 4 for _, boxes in found)
    scores = evaluate(truths, [one for one, _ in found], [boxes for _, boxes in found], 3, 100)
    assert scores.summary(range(3)) == pytest.approx({"ap50": 100, "ap": 100, "recall": 100})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": ["dog"]}, "'dog' is in `base` too"),
        ({"base": ["person", "cat"], "novel": ["cat"]}, "'cat' is in `base` too"),
        ({"base": [], "novel": []}, "neither `base` nor `novel` names a class"),
        ({"base": ["person", "person"]}, "'person' is listed twice"),
        ({"proposals": "boxes"}, "proposals: Input should be 'segments' or 'class_map'"),
        ({"min_area": 1.5}, "min_area: Input should be less than or equal to 1"),
        ({"detections": 0}, "detections: Input should be greater than or equal to 1"),
        ({"long_side": 40}, "`long_side` is smaller than `short_side`"),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RegroupError, match=message):
        evaluation("detection", options)


def test_a_class_that_the_file_does_not_have_is_named(model: GroupViT, coco: Path) -> None:
    with pytest.raises(
        RegroupError, match=r"instances_val2017\.json: no category is called 'persom'.* 'person'"
    ):
        evaluation("detection", {**OPTIONS, "base": ["persom"]}).run(model, Work({"coco": coco}))
    options = {"base": ["toaster"], "novel": ["sink"], "names": "drawn"}
    with pytest.raises(RegroupError, match=r"none of `base` and `novel` is drawn"):
        evaluation("detection", options).run(model, Work({"coco": coco}))


def test_a_split_without_an_object_is_no_score(model: GroupViT, coco: Path) -> None:
    for classes in (["spoon"], ["car"]):  # none, and a crowd alone
        with pytest.raises(RegroupError, match=r"no image has an object of the 1 classes"):
            evaluation("detection", {**OPTIONS, "base": classes, "novel": []}).run(
                model, Work({"coco": coco})
            )
    edit(coco, lambda content: content.update(images=[], annotations=[]))
    with pytest.raises(RegroupError, match=r"no image has an object"):
        evaluation("detection", OPTIONS).run(model, Work({"coco": coco}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [0, 0, float("nan"), 3]}, r"annotations\[0\]\.bbox: .* is no box of pixels \(id 0\)"),
        ({"bbox": [0, 0, -1, 3]}, r"annotations\[0\]\.bbox: .* is no box of pixels"),
        ({"bbox": [0, 0, 3]}, r"annotations\[0\]\.bbox: a box is four numbers"),
        ({"bbox": None}, r"annotations\[0\]\.bbox: a box is four numbers"),
        ({"image_id": 99}, r"annotations\[0\]\.image_id: image 99 is not in the file"),
        ({"category_id": 99}, r"annotations\[0\]\.category_id: category 99 is not in the file"),
        ({"iscrowd": 2}, r"annotations\[0\]\.iscrowd: is '2', not 0 or 1"),
    ],
)
def test_a_record_that_is_wrong_is_named(coco: Path, change: dict[str, Any], message: str) -> None:
    edit(coco, lambda content: content["annotations"][0].update(change))
    with pytest.raises(RegroupError, match=message):
        read_instances(coco / "annotations/instances_val2017.json", ["person"])


def test_what_is_missing_is_named(model: GroupViT, coco: Path) -> None:
    with pytest.raises(RegroupError, match=r"instances_train2017\.json: no such file"):
        evaluation("detection", {**OPTIONS, "split": "train"}).run(model, Work({"coco": coco}))
    edit(coco, lambda content: content["images"][0].update(width=61))
    with pytest.raises(RegroupError, match=r"1\.png: is 60 x 40, but is said to be 61 x 40"):
        evaluation("detection", OPTIONS).run(model, Work({"coco": coco}))


@pytest.mark.skipif("REGROUP_COCO_REAL" not in os.environ, reason="REGROUP_COCO_REAL names no COCO folder")
def test_real_images_by_random_weights_are_found_by_chance(model: GroupViT) -> None:
    """Boxes of random segments cover some of the large objects; of 65 classes they know none."""
    options = {"short_side": 112, "batch": 1}
    found = evaluation("detection", options).run(model, Work({"coco": Path(os.environ["REGROUP_COCO_REAL"])}))
    values = found.datasets["coco"].values
    assert values["ap50"] < 3
    assert values["recall"] < 30
