"""The fast path's mIoU is mmseg's `IoUMetric` over the reference path, to the last digit, whole datasets."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from regroup.backbones import load_checkpoint
from regroup.model import GroupViT
from regroup.params import load_params
from regroup.segmentation.evaluation import evaluate, evaluate_decisions
from regroup.segmentation.inference import Decision
from regroup.segmentation.resolved import resolve_dataset
from regroup.segmentation.settings import DatasetParams, InferenceParams
from regroup.segmentation.windows import WindowFeatures, encode_windows
from regroup.sources.make import make_source
from regroup.sources.manifest import raw_root
from regroup.sources.settings import WorldParams

from .mmseg_reference import mmseg_scores

ROOT = Path(__file__).parents[2]
SMALL = InferenceParams(short_side=48, window=48, stride=24)
DRAWN = ("coco", "voc12", "context", "ade")
PHOTOGRAPHS = int(os.environ.get("REGROUP_COCO_IMAGES", "4"))
"""How many of the real images are scored: four take a minute, all 79 of a small folder took 16."""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three validation images of every drawn dataset."""
    counts = {f"{name}_{split}": 1 + 2 * (split == "val") for name in DRAWN for split in ("train", "val")}
    folder = tmp_path_factory.mktemp("raw")
    for name in DRAWN:
        make_source(name, "mini", folder / name, world=WorldParams(**counts))
    return folder


@pytest.mark.parametrize(
    ("source", "protocol"),
    [
        ("coco", "coco_object_stuffthingmaps"),
        ("coco", "coco_object_instances"),
        ("voc12", "voc"),
        ("voc12", "voc20"),
        ("context", "context60"),
        ("context", "context59"),
        ("ade", "ade150"),
    ],
)
def test_scores_on_every_drawn_dataset_are_mmsegs_own(
    model: GroupViT, drawn: Path, source: str, protocol: str
) -> None:
    dataset = DatasetParams(source=source, protocol=protocol, names="drawn", threshold=0.1)
    root = raw_root(drawn / source)
    params = SMALL.model_copy(update={"short_side": 53})
    scores = evaluate(model, resolve_dataset(dataset, root), params)
    expected, metric = mmseg_scores(model, dataset, params, root)
    assert scores.iou_metric == expected
    predicted, true = (sum(areas).long().tolist() for areas in list(zip(*metric.results, strict=True))[2:])
    assert (scores.confusion.sum(0).tolist(), scores.confusion.sum(1).tolist()) == (predicted, true)
    assert sum(area > 0 for area in predicted) > 1, "one class everywhere would prove little"
    assert scores.images == 3


@pytest.mark.parametrize("name", ["coco", "voc", "context", "ade"])
def test_the_mini_checkpoint_scores_the_same_on_both_paths(drawn: Path, name: str) -> None:
    params = load_params(ROOT / "params.yaml").segmentation
    dataset = params.datasets[name]
    model = load_checkpoint(ROOT / "pretrain/groupvit-mini").eval()
    scores = evaluate(model, resolve_dataset(dataset, raw_root(drawn / dataset.source)), params)
    expected, metric = mmseg_scores(model, dataset, params, raw_root(drawn / dataset.source))
    assert scores.iou_metric == expected
    intersect, union, _, _ = (sum(areas).double().numpy() for areas in zip(*metric.results, strict=True))
    with np.errstate(invalid="ignore"):
        assert np.array_equal(scores.iou, 100 * intersect / union, equal_nan=True)
    assert scores.miou > 1


def remembered(encode: Callable[..., WindowFeatures]) -> Callable[..., WindowFeatures]:
    """Encode a window once, however many thresholds ask for it."""
    memory: dict[tuple[bytes, tuple[int, ...]], WindowFeatures] = {}

    def encoded(model: GroupViT, pixels: Tensor, classes: Tensor) -> WindowFeatures:
        key = hashlib.sha256(pixels.numpy().tobytes()).digest(), tuple(pixels.shape)
        if key not in memory:
            memory[key] = encode(model, pixels, classes)
        return memory[key]

    return encoded


@pytest.mark.slow
@pytest.mark.skipif("REGROUP_COCO_REAL" not in os.environ, reason="REGROUP_COCO_REAL names no COCO folder")
@pytest.mark.parametrize(
    ("params", "checked"),
    [
        (InferenceParams(), (0.03, 0.3)),
        (InferenceParams(short_side=512), (0.1,)),
        (InferenceParams(short_side=333, stride=199), (0.0,)),
    ],
    ids=["448", "512", "smaller than the window, odd"],
)
def test_photographs_at_real_size_on_both_paths(
    full_size: GroupViT,
    params: InferenceParams,
    checked: tuple[float, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Four thresholds in one pass of the fast path; some of them (the plain one is slow) on the other."""
    root = Path(os.environ["REGROUP_COCO_REAL"])
    thresholds = (0.0, 0.03, 0.1, 0.3)
    dataset = DatasetParams(source="coco", protocol="coco_object_instances", limit=PHOTOGRAPHS)
    decisions = [Decision(threshold, params.top_k) for threshold in thresholds]
    fast = evaluate_decisions(full_size, resolve_dataset(dataset, root), params, decisions)
    monkeypatch.setattr("regroup.segmentation.segmentor.encode_windows", remembered(encode_windows))
    for threshold in checked:
        scores = fast[thresholds.index(threshold)]
        one = dataset.model_copy(update={"threshold": threshold})
        expected, metric = mmseg_scores(full_size, one, params, root)
        assert scores.iou_metric == expected
        # mmseg adds up pixels in float32, whose counts are exact up to 16 million: here they are more
        found = [sum(area.double() for area in areas) for areas in zip(*metric.results, strict=True)]
        assert torch.equal(found[0].long(), torch.from_numpy(scores.confusion.diagonal().copy()))
        assert torch.equal(found[2].long(), torch.from_numpy(scores.confusion.sum(0)))
        assert torch.equal(found[3].long(), torch.from_numpy(scores.confusion.sum(1)))
    assert len({scores.miou for scores in fast}) >= 3, "thresholds that change nothing prove nothing"
