"""COCO files with records that are not what they should be: named, counted, and never computed with."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from regroup.captions.coco import read_coco_captions
from regroup.errors import RegroupError
from regroup.regions import draw, find_faults
from regroup.segmentation.layouts.instances import InstanceFile

SQUARE = [20, 10, 60, 10, 60, 50, 20, 50]
Change = Callable[[dict[str, Any], dict[str, Any]], object]


def instances() -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": f"v{i}.jpg", "width": 80, "height": 60} for i in range(4)],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [
            {"id": 100 + i, "image_id": i, "category_id": 18, "iscrowd": 0, "segmentation": [SQUARE]}
            for i in range(4)
        ],
    }


def runs(counts: Any, size: Any = (60, 80)) -> dict[str, Any]:
    return {"size": list(size) if isinstance(size, tuple) else size, "counts": counts}


def write(folder: Path, document: Any) -> Path:
    path = folder / "instances_val2017.json"
    path.write_text(json.dumps(document))
    return path


def test_a_good_file_is_read(tmp_path: Path) -> None:
    document = instances()
    document["annotations"][1].pop("iscrowd")
    document["annotations"][2].update(iscrowd=1, segmentation=runs([0, 4800]))
    document["annotations"][3].update(segmentation=[[-0.5, -0.5, 80.5, 0, 80, 60.5]])  # a little outside
    file = InstanceFile(write(tmp_path, document), ["background", "dog"])
    assert [image.file_name for image in file.images] == ["v0.jpg", "v1.jpg", "v2.jpg", "v3.jpg"]
    assert [len(found) for found in file.annotations.values()] == [1, 1, 1, 1]


BAD: dict[str, tuple[Change, str]] = {
    "no image id": (lambda a, i: a.pop("image_id"), r"annotations\[0\].image_id: is missing \(id 100\)"),
    "no category": (lambda a, i: a.pop("category_id"), r"annotations\[0\].category_id: is missing"),
    "no id": (lambda a, i: a.pop("id"), r"annotations\[0\].id: is missing"),
    "id of text": (lambda a, i: a.update(id="7"), "is a str, not int"),
    "fractional id": (lambda a, i: a.update(image_id=0.0), "image_id: is a float, not int"),
    "true for an id": (lambda a, i: a.update(image_id=True), "image_id: is a bool, not int"),
    "negative id": (lambda a, i: a.update(id=-1), "id: is -1, not within 0"),
    "endless id": (lambda a, i: a.update(id=10**40), "more than 30 digits, not within"),
    "id twice": (lambda a, i: a.update(id=101), r"annotations\[1\].id: annotation id 101 comes twice"),
    "unknown image": (lambda a, i: a.update(image_id=9), "image 9 is not among the images"),
    "unknown category": (lambda a, i: a.update(category_id=1), "category 1 is not among the categories"),
    "crowd of text": (lambda a, i: a.update(iscrowd="no"), "iscrowd: is 'no', not 0 or 1"),
    "crowd of list": (lambda a, i: a.update(iscrowd=[]), "iscrowd: .*not 0 or 1"),
    "no height": (lambda a, i: i.pop("height"), r"images\[0\].height: is missing \(id 0\)"),
    "height 0": (lambda a, i: i.update(height=0), "height: is 0, not within 1"),
    "width of text": (lambda a, i: i.update(width="80"), "width: is a str"),
    "huge size": (lambda a, i: i.update(width=10**6, height=10**6), "1000000 x 1000000 pixels are more"),
    "no file name": (lambda a, i: i.pop("file_name"), "file_name: is missing"),
    "file elsewhere": (lambda a, i: i.update(file_name="a/../../x.jpg"), "leaves the image folder"),
    "no name": (lambda a, i: i.update(file_name="."), "leaves the image folder"),
    "long name": (lambda a, i: i.update(file_name="x" * 300), "too long"),
    "half a letter": (lambda a, i: i.update(file_name="\ud800.jpg"), "is not Unicode"),
    "image id twice": (lambda a, i: i.update(id=1), r"images\[1\].id: image id 1 comes twice"),
    "no segmentation": (lambda a, i: a.pop("segmentation"), r"\[0\].segmentation: is missing \(id 100\)"),
    "empty": (lambda a, i: a.update(segmentation=[]), "cannot be drawn: it has no polygon"),
    "a point": (lambda a, i: a.update(segmentation=[[5, 5]]), "cannot be drawn: a polygon of 2 numbers"),
    "odd": (lambda a, i: a.update(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "a polygon of 7 numbers"),
    "not nested": (lambda a, i: a.update(segmentation=SQUARE), "a polygon is a list of numbers"),
    "nested more": (lambda a, i: a.update(segmentation=[[SQUARE]]), "a polygon is a list of numbers"),
    "text": (lambda a, i: a.update(segmentation=["123456"]), "a polygon is a list of numbers"),
    "null": (lambda a, i: a.update(segmentation=[[None, *SQUARE[1:]]]), "a polygon is a list of numbers"),
    "endless number": (lambda a, i: a.update(segmentation=[[10**400, *SQUARE[1:]]]), "a list of numbers"),
    "not a number": (lambda a, i: a.update(segmentation=[[math.nan, *SQUARE[1:]]]), "not finite or far"),
    "infinite": (lambda a, i: a.update(segmentation=[[math.inf, *SQUARE[1:]]]), "not finite or far"),
    "far outside": (lambda a, i: a.update(segmentation=[SQUARE, [3e8, *SQUARE[1:]]]), "not finite or far"),
    "a scribble": (lambda a, i: a.update(segmentation=[[0, 0, 80, 60] * 200]), "outline is longer"),
    "a number": (lambda a, i: a.update(segmentation=7), "is a int, not polygons or run lengths"),
    "no counts": (lambda a, i: a.update(segmentation=runs(None)), "no run lengths"),
    "no size": (lambda a, i: a.update(segmentation={"counts": [4800]}), "size is None, not 80 x 60"),
    "sides swapped": (lambda a, i: a.update(segmentation=runs([4800], (80, 60))), r"\[80, 60\], not 80 x 60"),
    "too few": (lambda a, i: a.update(segmentation=runs([4799])), "do not sum up to 80 x 60"),
    "below zero": (lambda a, i: a.update(segmentation=runs([-1, 4801])), "do not sum up"),
    "wrapping": (lambda a, i: a.update(segmentation=runs([2**62] * 4 + [4800])), "do not sum up"),
    "fractions": (lambda a, i: a.update(segmentation=runs([0.5, 4799.5])), "not whole numbers"),
    "lists": (lambda a, i: a.update(segmentation=runs([[1], [2, 3]])), "not whole numbers"),
    "other signs": (lambda a, i: a.update(segmentation=runs("é~")), "run lengths are damaged"),
    "cut short": (lambda a, i: a.update(segmentation=runs("PPP")), "run lengths are damaged"),
    "endless run": (lambda a, i: a.update(segmentation=runs("o" * 60 + "0")), "run lengths are damaged"),
    "wrong sum": (lambda a, i: a.update(segmentation=runs("05")), "do not sum up"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_instances_file_is_named_with_the_record_and_the_reason(name: str, tmp_path: Path) -> None:
    change, message = BAD[name]
    document = instances()
    change(document["annotations"][0], document["images"][0])
    with pytest.raises(RegroupError, match=rf"instances_val2017\.json: .*{message}"):
        InstanceFile(write(tmp_path, document), ["background", "dog"])


@pytest.mark.parametrize("record", [None, 3, "x", [], {}])
@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_record_of_another_kind_is_named(key: str, record: Any, tmp_path: Path) -> None:
    document = instances()
    document[key].insert(0, record)
    with pytest.raises(RegroupError, match=rf"{key}\[0\]\.id: is "):
        InstanceFile(write(tmp_path, document), ["background", "dog"])
    if key != "categories":
        with pytest.raises(RegroupError, match=rf"{key}\[0\]\.(id|image_id): is "):
            read_coco_captions(write(tmp_path, document))


@pytest.mark.parametrize(
    "content", [None, 3, "x", [], {}, {"images": {}, "annotations": [], "categories": []}]
)
def test_a_document_of_another_kind_is_named(content: Any, tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match=r"instances_val2017\.json: "):
        InstanceFile(write(tmp_path, content), ["dog"])


def test_many_faults_are_counted_and_the_first_ones_told(tmp_path: Path) -> None:
    document = instances()
    document["images"] = [{"id": i, "file_name": f"{i}.jpg", "width": -1, "height": 9} for i in range(40)]
    with pytest.raises(RegroupError) as error:
        read_coco_captions(write(tmp_path, document))
    assert str(error.value).count("width: is -1") == 5
    assert "(id 4)" in str(error.value)
    assert str(error.value).endswith("; and 39 more")  # 35 images, and the 4 annotations of them


def test_run_lengths_are_drawn_as_pycocotools_draws_them() -> None:
    rng = np.random.default_rng(0)
    for share in (0, 0.02, 0.5, 0.98, 1):
        inside = np.asfortranarray(rng.random((37, 53)) < share)
        encoded = coco_mask.encode(inside.astype(np.uint8, order="F"))
        for counts in (encoded["counts"], encoded["counts"].decode()):
            assert np.array_equal(draw({"size": [37, 53], "counts": counts}, 37, 53), inside)


def test_a_fault_is_found_among_many_good_ones() -> None:
    good = [([SQUARE, SQUARE], 60, 80), (runs([0, 4800]), 60, 80), ([[0, 0, 9, 0, 9, 9]], 10, 10)]
    bad = ([SQUARE, [math.nan, *SQUARE[1:]]], 60, 80)
    items = [*good * 50, bad, *good * 50]
    assert find_faults(items) == {150: "a coordinate is not finite or far outside the picture"}
    assert find_faults(good) == {}
