"""The tasks `robustness` and `calibration` on files."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from regroup.errors import RegroupError
from regroup.metrics import DatasetScores
from regroup.model import GroupViT
from regroup.reliability.corruptions import corrupt
from regroup.reliability.figures import calibration_figure, robustness_figure
from regroup.segmentation.evaluation import evaluate
from regroup.segmentation.inference import Decision, class_confidence, class_planes, encode_images, label_maps
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.resolved import ResolvedDataset, read_samples, resolve_dataset
from regroup.segmentation.settings import DatasetParams, InferenceParams
from regroup.tasks import TaskResult, Work, evaluation

from .conftest import overwrite_masks

SMALL = {"short_side": 40, "window": 40, "stride": 20, "batch": 4}
DATASETS = {"voc": {"source": "voc12", "protocol": "voc", "threshold": 0.1}}
ROBUST = {
    **SMALL,
    "datasets": DATASETS,
    "corruptions": ["noise", "jpeg"],
    "levels": [1, 5],
    "sizes": [60],
}
CALIBRATED = {**SMALL, "datasets": DATASETS, "thresholds": [0.3, 0.0, 0.1, 0.05], "images": 2}


def dataset(root: Path, **more: Any) -> ResolvedDataset:
    return resolve_dataset(DatasetParams.model_validate({**DATASETS["voc"], **more}), root, "voc")


def inference(**more: int) -> InferenceParams:
    return InferenceParams.model_validate(
        {key: SMALL[key] for key in ("short_side", "window", "stride")} | more
    )


def run(task: str, options: dict[str, Any], model: GroupViT, root: Path) -> TaskResult:
    return evaluation(task, options).run(model, Work({"voc12": root}))


def test_robustness_is_the_score_of_images_that_were_corrupted_before(model: GroupViT, voc: Path) -> None:
    """The same numbers from files that hold the corrupted images, as PNG, and from another size."""
    found = run("robustness", ROBUST, model, voc)
    scores = found.datasets["voc"]
    values = scores.values
    assert set(values) == set(found.metrics)
    assert found.metrics["kept"].unit == "ratio"
    clean = evaluate(model, dataset(voc), inference())
    assert values["miou"] == clean.miou
    assert values["miou_size_60"] == evaluate(model, dataset(voc), inference(short_side=24)).miou
    images = sorted((voc / "VOCdevkit/VOC2012/JPEGImages").glob("*.jpg"))[3:]  # of val
    originals = [np.asarray(Image.open(file)) for file in images]
    for kind in ("noise", "jpeg"):
        for level in (1, 5):
            for number, (file, image) in enumerate(zip(images, originals, strict=True)):
                # a PNG by the name of a JPEG is read as what it is
                Image.fromarray(corrupt(image, kind, level, seed=0, number=number)).save(file, "PNG")
            expected = evaluate(model, dataset(voc), inference()).miou
            assert values[f"miou_{kind}_{level}"] == expected
            assert scores.details["corruptions"][kind][str(level)] == expected
    mean = np.mean([values[f"miou_{kind}_{level}"] for kind in ("noise", "jpeg") for level in (1, 5)])
    assert values["miou_corrupted"] == pytest.approx(mean)
    assert values["kept"] == pytest.approx(mean / values["miou"])
    assert len({values[name] for name in ("miou", "miou_noise_1", "miou_noise_5", "miou_size_60")}) == 4


def test_the_usual_size_is_not_scored_twice(model: GroupViT, voc: Path) -> None:
    found = run("robustness", {**ROBUST, "corruptions": [], "sizes": [100]}, model, voc)
    assert found.main == "miou"
    assert found.datasets["voc"].values["miou_size_100"] == found.datasets["voc"].values["miou"]


def test_nothing_right_has_no_share_that_is_kept(model: GroupViT, voc: Path) -> None:
    """A class that cannot be predicted: mIoU 0, and no number instead of a division by it."""
    overwrite_masks(voc, 11)  # a table, which is not drawn
    options = {**ROBUST, "datasets": {"voc": {**DATASETS["voc"], "names": "drawn", "threshold": 0}}}
    values = run("robustness", options, model, voc).datasets["voc"].values
    assert values["miou"] == values["miou_corrupted"] == 0
    assert "kept" not in values


def test_confidence_is_the_share_of_the_planes(model: GroupViT, voc: Path) -> None:
    """From all planes of the class map, and in full float64 from the scores of windows."""
    data = dataset(voc)
    prompts = data.prompts.without_background()
    classes = embed_prompts(model, prompts.texts)
    for mask, encoded in encode_images(model, classes, read_samples(data, inference()), inference(), batch=2):
        size = (mask.shape[0], mask.shape[1])
        ids, planes = class_planes(encoded, prompts, Decision(0, 5), size)
        shares = planes.double() / planes.double().sum(0)
        labels, confidence = class_confidence(encoded, data.prompts, 5, size)
        assert torch.equal(torch.tensor(ids)[planes.argmax(0)], labels.long())
        torch.testing.assert_close(confidence.double(), shares.amax(0), atol=1e-5, rtol=1e-5)
        assert confidence.min() >= 1 / len(ids) - 1e-6
        assert confidence.std() > 0.05


def test_classes_that_all_have_zero_are_alike(model: GroupViT, voc: Path) -> None:
    data = dataset(voc)
    classes = embed_prompts(model, data.prompts.texts)
    _, encoded = next(encode_images(model, classes, read_samples(data, inference()), inference(), batch=1))
    # the best of the window is far behind for every segment
    logits = torch.zeros_like(encoded.features.logits)
    logits[..., 1:] = 500
    image_logits = torch.zeros_like(encoded.features.image_logits)
    image_logits[..., 0] = 1
    nothing = replace(encoded, features=encoded.features._replace(logits=logits, image_logits=image_logits))
    ids, confidence = class_confidence(nothing, data.prompts, 1, (7, 9))
    assert (ids == 1).all()
    assert (next(label_maps(nothing, data.prompts.without_background(), [Decision(0, 1)], (7, 9))) == 1).all()
    torch.testing.assert_close(confidence, torch.full((7, 9), 1 / 20))


def test_the_threshold_is_chosen_on_train_and_scored_on_val(model: GroupViT, voc: Path) -> None:
    """Every point of both curves is an evaluation of its own."""
    found = run("calibration", CALIBRATED, model, voc)
    scores = found.datasets["voc"]

    def miou(threshold: float, **more: Any) -> float:
        return evaluate(model, dataset(voc, threshold=threshold, **more), inference()).miou

    grid = (0.0, 0.05, 0.1, 0.3)
    train = {threshold: miou(threshold, split="train", limit=2) for threshold in grid}
    val = {threshold: miou(threshold) for threshold in grid}
    assert len(set(train.values())) > 1
    chosen = min(threshold for threshold in grid if train[threshold] == max(train.values()))
    values = scores.values
    assert (values["threshold_chosen"], values["miou_chosen"]) == (chosen, val[chosen])
    assert (values["threshold_fixed"], values["miou_fixed"]) == (0.1, val[0.1])
    assert values["miou_best"] == max(val.values())
    assert scores.details["train_images"] == 2
    rows = list(csv.DictReader(io.StringIO(found.files["thresholds.csv"].decode())))
    assert [float(row["threshold"]) for row in rows] == list(grid)
    assert [float(row["train"]) for row in rows] == pytest.approx(list(train.values()), abs=1e-4)
    assert found.metrics["threshold_chosen"].unit == "ratio"
    assert set(values) == set(found.metrics)


def test_the_error_is_of_scored_pixels_without_background(model: GroupViT, voc: Path) -> None:
    found = run("calibration", CALIBRATED, model, voc)
    scores, data = found.datasets["voc"], dataset(voc)
    classes = embed_prompts(model, data.prompts.texts)
    sure, right = [], []
    for mask, encoded in encode_images(model, classes, read_samples(data, inference()), inference(), batch=4):
        ids, confidence = class_confidence(encoded, data.prompts, 5, (mask.shape[0], mask.shape[1]))
        for label, true, one in zip(ids.flatten(), mask.flatten(), confidence.flatten(), strict=True):
            if true not in (0, 255):
                sure.append(float(one))
                right.append(bool(label == true))
    assert scores.details["scored_pixels"] == len(sure)
    bins = np.minimum(np.ceil(np.array(sure) * 15).astype(int) - 1, 14)
    gaps = [abs(np.mean(np.array(right)[bins == k]) - np.mean(np.array(sure)[bins == k])) * (bins == k).sum()
            for k in set(bins.tolist())]  # fmt: skip
    assert scores.values["ece"] == pytest.approx(100 * sum(gaps) / len(sure))
    assert scores.values["accuracy"] == pytest.approx(100 * np.mean(right))


def test_a_fixed_threshold_outside_the_grid_is_scored_and_not_chosen(model: GroupViT, voc: Path) -> None:
    options = {**CALIBRATED, "thresholds": [0.9]}
    scores = run("calibration", options, model, voc).datasets["voc"]
    assert (scores.values["threshold_chosen"], scores.values["threshold_fixed"]) == (0.9, 0.1)
    assert scores.details["thresholds"][0] == {
        "threshold": 0.1,
        "train": None,
        "val": scores.values["miou_fixed"],
    }


def test_without_thresholds_or_background_confidence_is_left(model: GroupViT, voc: Path) -> None:
    for options in (
        {**CALIBRATED, "thresholds": []},
        {**CALIBRATED, "datasets": {"voc": {"source": "voc12", "protocol": "voc20"}}},
    ):
        found = run("calibration", options, model, voc)
        assert set(found.datasets["voc"].values) == set(found.metrics) == {"ece", "confidence", "accuracy"}
        assert list(found.files) == ["reliability.csv"]


def test_one_class_is_sure_and_right_where_it_is_shown(model: GroupViT, voc: Path, tmp_path: Path) -> None:
    overwrite_masks(voc, 1)
    file = Path("tests/reliability") / "one_class.yaml"
    found = run("calibration", {**CALIBRATED, "datasets": {"one": {
        "source": "voc12", "protocol": str(file), "threshold": 0.1}}}, model, voc)  # fmt: skip
    values = found.datasets["one"].values
    assert (values["ece"], values["confidence"], values["accuracy"]) == (0, 100, 100)


def test_masks_that_show_nothing_to_score_are_named(model: GroupViT, voc: Path) -> None:
    overwrite_masks(voc, 255)
    for task, options in (("robustness", ROBUST), ("calibration", CALIBRATED)):
        with pytest.raises(RegroupError, match="SegmentationClass: no pixel has a label of protocol voc"):
            run(task, options, model, voc)
    overwrite_masks(voc, 0)
    with pytest.raises(RegroupError, match="no pixel shows a class other than background"):
        run("calibration", CALIBRATED, model, voc)


def test_an_empty_training_split_is_named(model: GroupViT, voc: Path) -> None:
    (voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt").write_text("")
    with pytest.raises(RegroupError, match=r"train"):
        run("calibration", CALIBRATED, model, voc)
    assert run("calibration", {**CALIBRATED, "thresholds": []}, model, voc)


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("robustness", {"corruptions": ["fog"]}, r"corruptions\.0: Input should be 'brightness', 'blur'"),
        ("robustness", {"corruptions": ["blur", "blur"]}, "'blur' is listed twice"),
        ("robustness", {"levels": [0]}, r"levels\.0: Input should be greater than or equal to 1"),
        ("robustness", {"levels": [6]}, r"levels\.0: Input should be less than or equal to 5"),
        ("robustness", {"levels": []}, "levels: "),
        ("robustness", {"sizes": [0]}, r"sizes\.0: "),
        ("robustness", {"corruptions": []}, "neither `corruptions` nor `sizes` has an entry"),
        ("robustness", {"datasets": {}}, "datasets: "),
        ("calibration", {"thresholds": [0.5, 1.5]}, r"thresholds\.1: Input should be less than"),
        ("calibration", {"thresholds": [-0.1]}, r"thresholds\.0: Input should be greater than or equal to 0"),
        ("calibration", {"thresholds": [0.5, 0.5]}, "0.5 is listed twice"),
        ("calibration", {"bins": 0}, "bins: "),
        ("calibration", {"datasets": {"a": {**DATASETS["voc"], "split": "train"}}}, r"datasets\.a\.split: "),
        ("calibration", {"stride": 41}, "`stride` is larger than `window`"),
    ],
)  # fmt: skip
def test_options_that_mean_nothing_are_refused(task: str, options: dict[str, Any], message: str) -> None:
    base = {**SMALL, "datasets": DATASETS}
    with pytest.raises(RegroupError, match=message):
        evaluation(task, {**base, **options})


def test_figures_are_drawn_from_what_a_metrics_file_holds(model: GroupViT, voc: Path, tmp_path: Path) -> None:
    """Their data are the values; the same files every time."""
    robust = run("robustness", ROBUST, model, voc).datasets
    sure = {**run("calibration", CALIBRATED, model, voc).datasets}
    sure["plain"] = run("calibration", {**CALIBRATED, "thresholds": []}, model, voc).datasets["voc"]
    for draw, datasets in ((robustness_figure, robust), (calibration_figure, sure)):
        read = {
            name: DatasetScores.model_validate(json.loads(scores.model_dump_json()))
            for name, scores in datasets.items()
        }
        files = [
            draw(read, variant="mine", profile="mini", drawn=True).save(tmp_path / folder) for folder in "ab"
        ]
        assert all(one.read_bytes() == other.read_bytes() for one, other in zip(*files, strict=True))
    data = np.load(tmp_path / "a/robustness.npz")
    values = robust["voc"].values
    assert data["voc_noise"].tolist() == [
        [0, 1, 5],
        [values["miou"], values["miou_noise_1"], values["miou_noise_5"]],
    ]
    assert data["voc_size"].tolist() == [[60, 100], [values["miou_size_60"], values["miou"]]]
    assert "voc_thresholds" in np.load(tmp_path / "a/calibration.npz")
