from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from regroup.errors import RegroupError
from regroup.segmentation.layouts.instances import CATEGORY_IDS, InstanceFile, from_instances
from regroup.segmentation.layouts.stuffthingmaps import from_stuffthingmap


def rectangle(top: int, bottom: int, left: int, right: int) -> list[list[int]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def test_stuff_map_ids_become_coco_objects_in_order_and_everything_else_background() -> None:
    # person 0, stop sign (category 13) 12, toothbrush (category 90) 89; stuff from 91; 255 unlabelled
    raw = np.array([[0, 12, 89, 91, 181, 255]], dtype=np.uint8)
    assert from_stuffthingmap(raw, Path("a.png")).tolist() == [[1, 12, 80, 0, 0, 0]]


def test_a_stuff_map_with_a_thing_id_that_coco_dropped_is_refused() -> None:
    with pytest.raises(RegroupError, match=r"a\.png: ids \[11\] are none of COCO's 80 categories"):
        from_stuffthingmap(np.array([[0, 11]], dtype=np.uint8), Path("a.png"))


def test_the_smaller_object_is_on_top_and_a_crowd_is_ignored_where_no_object_is() -> None:
    crowd = np.zeros((10, 12), dtype=np.uint8, order="F")
    crowd[:, 8:] = 1
    runs = coco_mask.encode(crowd)
    annotations = [
        {"id": 1, "category_id": 1, "segmentation": rectangle(2, 4, 2, 4)},
        {"id": 2, "category_id": 2, "segmentation": rectangle(0, 6, 0, 10)},
        {"id": 3, "category_id": 1, "iscrowd": 1, "segmentation": runs},
    ]
    expected = np.zeros((10, 12), dtype=np.uint8)
    expected[:, 8:] = 255
    expected[0:6, 0:10] = 5
    expected[2:4, 2:4] = 7
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        mask = from_instances([annotations[i] for i in order], {1: 7, 2: 5}, 10, 12)
        assert np.array_equal(mask, expected)


def test_an_annotation_without_a_usable_segmentation_is_named() -> None:
    with pytest.raises(RegroupError, match="annotation 9: segmentation cannot be drawn"):
        from_instances([{"id": 9, "category_id": 1}], {1: 1}, 4, 4)
    runs = coco_mask.encode(np.ones((5, 5), dtype=np.uint8, order="F"))
    with pytest.raises(RegroupError, match=r"annotation 8: .*\[5, 5\], not 4 x 4"):
        from_instances([{"id": 8, "category_id": 1, "segmentation": runs}], {1: 1}, 4, 4)


def test_categories_are_matched_by_name_whatever_their_ids(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 40, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    path.write_text(json.dumps(content))
    assert InstanceFile(path, ["background", "dog", "cat"]).classes == {40: 2, 3: 1}
    with pytest.raises(RegroupError, match=r"instances\.json: categories \['cat'\] are not among"):
        InstanceFile(path, ["background", "dog"])
    path.write_text(json.dumps({"images": []}))
    with pytest.raises(RegroupError, match="no annotations, categories"):
        InstanceFile(path, ["dog"])


@pytest.mark.skipif("REGROUP_COCO_REAL" not in os.environ, reason="REGROUP_COCO_REAL names no COCO folder")
def test_category_ids_are_the_real_files() -> None:
    path = Path(os.environ["REGROUP_COCO_REAL"], "annotations", "instances_val2017.json")
    assert tuple(category["id"] for category in json.loads(path.read_text())["categories"]) == CATEGORY_IDS
