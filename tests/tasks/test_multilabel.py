"""Multi-label mAP: average precision against scikit-learn's, chance against all orders, COCO's files."""

from __future__ import annotations

import json
import os
import warnings
from itertools import permutations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score

from regroup.errors import RegroupError
from regroup.features import image_features, text_features
from regroup.model import GroupViT
from regroup.tasks import Work, evaluation
from regroup.tasks._average_precision import average_precision, chance
from regroup.tasks.multilabel import read_presence


def sklearns(scores: np.ndarray, positive: np.ndarray) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of no positive
        return float(average_precision_score(positive, scores))


@pytest.mark.parametrize("kinds", [2, 5, 10**6])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
def test_average_precision_is_scikit_learns(kinds: int, share: float) -> None:
    rng = np.random.default_rng(kinds)
    for size in (1, 2, 7, 300):
        scores = rng.integers(0, kinds, size) / kinds - 0.5  # few kinds: many ties
        positive = rng.random(size) < share
        positive[0] = True
        assert average_precision(scores, positive) == pytest.approx(sklearns(scores, positive), abs=1e-12)


def test_average_precision_of_degenerate_rankings() -> None:
    scores = np.array([0.3, 0.1, 0.2])
    for positive in (np.ones(3, bool), np.zeros(3, bool)):
        assert average_precision(scores, positive) == sklearns(scores, positive) == positive.all()
    tied = np.zeros(4)
    one = np.array([True, False, False, False])
    assert average_precision(tied, one) == sklearns(tied, one) == 0.25


@pytest.mark.parametrize(("positives", "items"), [(1, 1), (1, 4), (2, 5), (5, 5), (4, 6)])
def test_chance_is_the_mean_over_all_orders(positives: int, items: int) -> None:
    positive = np.arange(items) < positives
    every = [average_precision(np.array(order, float), positive) for order in permutations(range(items))]
    assert chance(positives, items) == pytest.approx(np.mean(every), abs=1e-12)


CATEGORIES = [{"id": 3, "name": "house"}, {"id": 1, "name": "dog"}, {"id": 9, "name": "kite"}]
SHOWN = [(4, 1, 0), (4, 1, 0), (7, 3, 1), (9, 3, 0), (9, 1, 0)]
"""Image, category, crowd; image 4 has two dogs, images 12 and 15 nothing, nothing is a kite."""


def write_instances(root: Path, annotations: list[dict[str, object]], categories: list[object]) -> Path:
    images = json.loads((root / "annotations/captions_val2017.json").read_text())["images"]
    file = root / "annotations/instances_val2017.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def annotated() -> list[dict[str, object]]:
    return [
        {"id": k, "image_id": image, "category_id": category, "iscrowd": crowd}
        for k, (image, category, crowd) in enumerate(SHOWN)
    ]


def test_map_is_the_mean_over_categories_that_occur(model: GroupViT, coco: Path) -> None:
    write_instances(coco, annotated(), CATEGORIES)
    found = evaluation("multilabel", {}).run(model, Work({"coco": coco}))
    ids = [4, 7, 9, 12, 15]
    paths = [coco / f"val2017/{number:012}.png" for number in ids]
    images = image_features(model, paths, size=32, batch=1).double().numpy()
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    expected = []
    for name, shown in (("dog", {4, 9}), ("house", {7, 9})):
        text = text_features(model, [f"a photo of a {name}."])[0].double().numpy()
        scores = images @ text / np.linalg.norm(text)
        expected.append(100 * sklearns(scores, np.array([i in shown for i in ids])))
    scores = found.datasets["coco"]
    assert scores.values["map"] == pytest.approx(np.mean(expected))
    assert scores.images == 5
    assert scores.details["categories_that_occur"] == 2
    assert scores.details["images_without_category"] == 2
    assert scores.details["prevalence"] == pytest.approx(40)
    assert scores.details["chance"] == {"map": pytest.approx(100 * chance(2, 5))}
    table = pq.read_table(pa.BufferReader(found.files["per_class.parquet"])).to_pylist()
    assert [(row["category"], row["images"]) for row in table] == [("dog", 2), ("house", 2)]
    assert [row["average_precision"] for row in table] == pytest.approx(expected)


def test_a_limit_is_of_images_by_id(model: GroupViT, coco: Path) -> None:
    write_instances(coco, annotated(), CATEGORIES)
    scores = evaluation("multilabel", {"limit": 2}).run(model, Work({"coco": coco})).datasets["coco"]
    assert scores.images == 2
    assert scores.details["images_without_category"] == 0


def test_annotations_at_fault_are_named(coco: Path) -> None:
    def fails(message: str, annotations: list[dict[str, object]], categories: list[object]) -> None:
        with pytest.raises(RegroupError) as error:
            read_presence(write_instances(coco, annotations, categories), None)
        assert "instances_val2017.json: " + message in str(error.value)

    ours = annotated()
    fails("annotations[1].image_id: there is no image 99", [ours[0], {**ours[1], "image_id": 99}], CATEGORIES)
    fails("annotations[0].category_id: there is no category 7", [{**ours[0], "category_id": 7}], CATEGORIES)
    fails("annotations[0].image_id: there is no image None", [{"id": 1}], CATEGORIES)
    fails("categories[3].id: category id 3 comes twice", ours, [*CATEGORIES, CATEGORIES[0]])
    fails(
        "categories[3].name: 'Kite' is another category's too", ours, [*CATEGORIES, {"id": 8, "name": "Kite"}]
    )
    fails("categories[0].name: is not Unicode", ours, [{"id": 1, "name": "\ud83d"}])
    fails("categories[0].name: is empty", ours, [{"id": 1, "name": " "}])
    fails("categories[0]: its id or name is missing", ours, [{"id": 1}])
    fails("no category occurs in an image", [], CATEGORIES)


def test_a_split_without_instances_is_named(model: GroupViT, coco: Path) -> None:
    with pytest.raises(RegroupError, match=r"instances_val2017\.json: no such file"):
        evaluation("multilabel", {}).run(model, Work({"coco": coco}))


@pytest.mark.skipif("REGROUP_COCO_REAL" not in os.environ, reason="REGROUP_COCO_REAL names no COCO folder")
def test_random_weights_score_chance_on_real_images(model: GroupViT) -> None:
    root = Path(os.environ["REGROUP_COCO_REAL"])
    scores = evaluation("multilabel", {}).run(model, Work({"coco": root})).datasets["coco"]
    random = scores.details["chance"]["map"]
    # of the mean of so many categories; a random order departs from its mean by less
    assert abs(scores.values["map"] - random) < 6
