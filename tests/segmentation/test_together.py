"""Datasets of the same images are encoded once, and score what each scores alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regroup.model import GroupViT
from regroup.segmentation.evaluation import evaluate_all
from regroup.segmentation.resolved import of_the_same_images, resolve_datasets
from regroup.segmentation.settings import DatasetParams, EvaluateParams

VOC = {
    "voc21": DatasetParams(source="voc12", protocol="voc", threshold=0.1),
    "first": DatasetParams(source="voc12", protocol="voc20", limit=2),
    "voc20": DatasetParams(source="voc12", protocol="voc20"),
    "words": DatasetParams(source="voc12", protocol="voc21_words"),
}


def params(datasets: dict[str, DatasetParams], **settings: Any) -> EvaluateParams:
    return EvaluateParams(
        short_side=48, window=48, stride=24, batch=3, device="cpu", datasets=datasets, **settings
    )


def test_together_is_alone_to_the_last_bit_and_encodes_once(
    model: GroupViT, voc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = []
    encode = model.encode_image

    def counted(pixels: Any, **options: Any) -> Any:
        windows.append(len(pixels))
        return encode(pixels, **options)

    monkeypatch.setattr(model, "encode_image", counted)
    options = {"boundary": 0.02, "per_image": True}
    together = evaluate_all(model, params(VOC, **options), {"voc12": voc})
    once, alone, each = sum(windows), {}, {}
    for name, one in VOC.items():
        windows.clear()
        alone[name] = evaluate_all(model, params({name: one}, **options), {"voc12": voc})
        each[name] = sum(windows)
    assert list(together.datasets) == list(VOC), "in the profile's order"
    for name, scores in together.datasets.items():
        [other] = alone[name].datasets.values()
        assert np.array_equal(scores.confusion, other.confusion)
        assert scores.for_metrics() == other.for_metrics()
        assert scores.per_image == other.per_image
    assert once == each["voc21"] + each["first"] < sum(each.values())


def test_only_the_same_images_in_the_same_order_go_together(voc: Path) -> None:
    groups = of_the_same_images(resolve_datasets(VOC, {"voc12": voc}).values())
    assert [[one.name for one in group] for group in groups] == [["voc21", "voc20", "words"], ["first"]]
