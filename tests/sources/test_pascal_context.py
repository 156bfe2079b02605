"""PASCAL Context's masks: ids by the published rule, names checked, lists by phase."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from regroup.errors import RegroupError
from regroup.segmentation.protocols import load_protocol
from regroup.sources.makers.pascal_context import context_classes, make_context_masks
from regroup.sources.mini.names import load_names

# The ids in the order of the published converter, which sorts them and takes their places in the sorted list.
PUBLISHED = (
    *(0, 2, 259, 260, 415, 324, 9, 258, 144, 18, 19, 22, 23, 397, 25, 284, 158, 159, 416, 33, 162, 420, 454),
    *(
        295,
        296,
        427,
        44,
        45,
        46,
        308,
        59,
        440,
        445,
        31,
        232,
        65,
        354,
        424,
        68,
        326,
        72,
        458,
        34,
        207,
        80,
        355,
    ),
    *(85, 347, 220, 349, 360, 98, 187, 104, 105, 366, 189, 368, 113, 115),
)


def region(number: int, image: int, category: int, box: tuple[int, int, int, int]) -> dict[str, Any]:
    inside = np.zeros((40, 60), dtype=np.uint8, order="F")
    top, left, bottom, right = box
    inside[top:bottom, left:right] = 1
    encoded = coco_mask.encode(inside)
    counts = encoded["counts"].decode("ascii")
    segmentation = {"size": [40, 60], "counts": counts}
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation}


def document() -> dict[str, Any]:
    phases = {20080001: "val", 20080002: "train", 20080003: "train", 20080004: "test"}
    return {
        "categories": [{"category_id": one.id, "name": one.names[-1]} for one in context_classes()],
        "images": [
            {"image_id": i, "file_name": f"2008_00000{i % 10}.jpg", "phase": p, "height": 40, "width": 60}
            for i, p in reversed(phases.items())
        ],
        "annos_segmentation": [
            region(1, 20080001, 284, (0, 0, 20, 30)),
            region(2, 20080001, 2, (10, 10, 40, 60)),  # on top of the first
            region(3, 20080002, 458, (5, 5, 6, 6)),
            region(4, 20080002, 0, (5, 5, 6, 6)),
        ],
    }


def write(folder: Path, value: Any) -> Path:
    path = folder / "trainval_merged.json"
    path.write_text(json.dumps(value))
    return path


def test_classes_are_the_published_ids_and_the_protocols_names() -> None:
    classes = context_classes()
    assert [0, *(one.id for one in classes)] == sorted(PUBLISHED)
    assert tuple(one.names[0] for one in classes) == load_protocol("context60").classes[1:]
    drawn = {label for concept in load_names().concepts if (label := concept.label("context"))}
    assert drawn <= {(k, one.names[0]) for k, one in enumerate(classes, start=1)}


def test_masks_have_the_places_of_the_sorted_ids(tmp_path: Path) -> None:
    out = tmp_path / "VOC2010"
    assert make_context_masks(write(tmp_path, document()), out) == {"train": 2, "val": 1}
    expected = np.zeros((40, 60), dtype=np.uint8)
    expected[0:20, 0:30] = sorted(PUBLISHED).index(284)
    expected[10:40, 10:60] = sorted(PUBLISHED).index(2)
    with Image.open(out / "SegmentationClassContext/2008_000001.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.array(image), expected)
    with Image.open(out / "SegmentationClassContext/2008_000002.png") as image:
        assert not np.array(image).any()
    lists = out / "ImageSets/SegmentationContext"
    assert (lists / "train.txt").read_text() == "2008_000002\n2008_000003\n"
    assert (lists / "val.txt").read_text() == "2008_000001\n"
    assert len(list((out / "SegmentationClassContext").iterdir())) == 3


def test_the_evaluation_reads_them(tmp_path: Path) -> None:
    from regroup.segmentation.datasets import ProtocolDataset

    root = tmp_path / "VOCdevkit/VOC2010"
    make_context_masks(write(tmp_path, document()), root)
    (root / "JPEGImages").mkdir()
    Image.new("RGB", (60, 40)).save(root / "JPEGImages/2008_000001.jpg")
    entry = ProtocolDataset("context60", tmp_path)[0]
    ids = entry["data_samples"].gt_sem_seg.data.unique().tolist()
    assert [load_protocol("context60").classes[i] for i in ids] == ["background", "airplane", "person"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["categories"][3].update(name="bench"), "id 19 is 'bench', expected 'bedclothes'"),
        (lambda d: d["categories"].pop(0), "id 2 is missing, expected 'airplane'"),
        (lambda d: d["annos_segmentation"][0].update(category_id=3), r"2008_000001\.jpg: ids \[3\] are none"),
        (
            lambda d: d["annos_segmentation"][0]["segmentation"].update(size=[10, 10]),
            "annotation 1: cannot be",
        ),
        (lambda d: d["annos_segmentation"][0].pop("segmentation"), "annotation 1: cannot be drawn"),
        (lambda d: d.pop("categories"), "not a trainval_merged.json of PASCAL Context: no categories"),
    ],
)
def test_what_is_not_as_expected_is_named_and_leaves_nothing(
    tmp_path: Path, change: Any, message: str
) -> None:
    value = document()
    change(value)
    out = tmp_path / "VOC2010"
    with pytest.raises(RegroupError, match=rf"trainval_merged\.json: .*{message}"):
        make_context_masks(write(tmp_path, value), out)
    assert not list(out.glob("*")) if out.exists() else True
