"""Grouping and alignment, each on its own, against an independent computation in float64."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regroup.analysis.dissection import dissect
from regroup.analysis.dissection_report import by_analysis, write_dissection
from regroup.analysis.neighbours import Bank, BankBuilder, nearest, soft_labels, vote
from regroup.analysis.settings import DissectParams
from regroup.cli import main
from regroup.errors import RegroupError
from regroup.model import GroupViT, save_checkpoint
from regroup.segmentation.images import DEVIATION, MEAN, read_image, scale_image
from regroup.segmentation.inference import Decision
from regroup.segmentation.protocols import load_protocol
from regroup.segmentation.resolved import resolve_dataset
from regroup.segmentation.segmentor import OpenVocabularySegmentor
from regroup.segmentation.settings import DatasetParams, InferenceParams

from . import oracle

SMALL = InferenceParams(short_side=40, window=32, stride=16)
VOC = DatasetParams(source="voc12", protocol="voc", threshold=0.1)
PARAMS = DissectParams(neighbours=(1, 3, 5), chosen=3, features_per_class=9)


def images_of(root: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    base = root / "VOCdevkit/VOC2012"
    stems = (base / f"ImageSets/Segmentation/{split}.txt").read_text().split()
    return [
        (
            read_image(base / f"JPEGImages/{stem}.jpg"),
            np.array(Image.open(base / f"SegmentationClass/{stem}.png")),
        )
        for stem in stems
    ]


def slow_segments(model: GroupViT, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Segment tokens and the segment of each pixel, in float64 from the pixels on."""
    import cv2

    squeezed = cv2.resize(image, (32, 32), interpolation=cv2.INTER_LINEAR).astype(np.float64)
    pixels = torch.from_numpy(((squeezed - MEAN) / DEVIATION).transpose(2, 0, 1))[None]
    with torch.no_grad():
        found = copy.deepcopy(model).double().encode_image(pixels, return_attention=True)
    attention = (found.soft[1][0] @ found.soft[0][0]).numpy()
    maps = [oracle.bilinear(one.reshape(4, 4), *mask.shape) for one in attention]
    return found.segments[0].numpy(), np.argmax(maps, axis=0)


@pytest.mark.parametrize("without", [False, True], ids=["with background", "without background"])
def test_grouping_is_the_independent_computations(model: GroupViT, voc: Path, without: bool) -> None:
    scores = dissect(model, VOC, SMALL, PARAMS, voc)
    features: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    count = np.zeros(21, dtype=int)
    for image, mask in images_of(voc, "train"):
        mask = np.where(mask == 0, 255, mask) if without else mask
        tokens, groups = slow_segments(model, image, mask)
        for token, share in zip(tokens, oracle.shares(groups, mask, 6, 21), strict=True):
            if share.sum() and count[share.argmax()] < 9:
                count[share.argmax()] += 1
                features.append(token)
                labels.append(share)
    assert max(count) == 9, "a limit that is never reached proves nothing"
    val = [(*slow_segments(model, image, mask), mask) for image, mask in images_of(voc, "val")]
    masks = [np.where(mask == 0, 255, mask) if without else mask for *_, mask in val]
    seen = set()
    for k in PARAMS.neighbours:
        predicted = []
        for tokens, groups, _ in val:
            ids = np.array(
                [oracle.neighbours_vote(np.array(features), np.array(labels), t, k) for t in tokens]
            )
            predicted.append(ids[groups])
        found = scores[f"k{k}{'_wb' if without else ''}"]
        assert found.miou == pytest.approx(oracle.mean_iou(predicted, masks, 21), abs=1e-9)
        assert found.iou_metric["mIoU"] == pytest.approx(round(found.miou, 2))
        assert found.protocol["bank"] == len(features)
        assert found.images == 7
        seen.add(found.miou)
    assert len(seen) > 1
    if without:
        assert found.confusion[0].sum() == 0
        assert found.confusion[:, 0].sum() == 0


@pytest.mark.parametrize("analysis", ["alignment", "alignment_wb", "alignment_given"])
def test_alignment_is_the_independent_computations(model: GroupViT, voc: Path, analysis: str) -> None:
    """L_affinity from mmseg's own sliding window, every class of every pixel, averaged region by region."""
    scores = dissect(model, VOC, SMALL, PARAMS, voc)
    found, without = scores[analysis], analysis == "alignment_wb"
    segmentor = OpenVocabularySegmentor(model, "voc", threshold=0.1, window=32, stride=16)
    predicted, masks = [], []
    for image, mask in images_of(voc, "val"):
        scaled = scale_image(image, SMALL).astype(np.float32)
        pixels = ((scaled - np.float32(MEAN)) / np.float32(DEVIATION)).transpose(2, 0, 1)[None]
        meta = [{"ori_shape": mask.shape, "img_shape": scaled.shape[:2]}]
        with torch.inference_mode():
            logits = segmentor.inference(torch.from_numpy(pixels), meta)[0].double().numpy()
        enlarged = np.stack([oracle.bilinear(plane, *mask.shape) for plane in logits])
        first = 1 if without else 0
        mask = np.where(mask == 0, 255, mask) if without else mask
        one = np.zeros(mask.shape, dtype=int)
        for label in np.unique(mask):
            region = mask == label
            one[region] = first + enlarged[first:, region].mean(axis=1).argmax()
        if analysis == "alignment_given":
            one[mask == 0] = 0
        predicted.append(one)
        masks.append(mask)
    assert found.miou == pytest.approx(oracle.mean_iou(predicted, masks, 21), abs=1e-9)
    assert found.protocol["background"] is not without
    assert len({int(i) for one in predicted for i in np.unique(one)}) > 2
    assert len({one.miou for name, one in scores.items() if name.startswith("alignment")}) == 3


def test_a_region_has_one_label(model: GroupViT, voc: Path) -> None:
    from regroup.analysis.alignment import align
    from regroup.analysis.qualitative import encode
    from regroup.segmentation.settings import EvaluateParams

    params = EvaluateParams(**SMALL.model_dump(), datasets={"voc": VOC})
    for image, mask in images_of(voc, "val"):
        labels = load_protocol("voc").class_prompts()
        found = align(encode(model, image, resolve_dataset(VOC, voc), params), labels, Decision(0.1, 5), mask)
        assert all(len(np.unique(found[mask == label])) == 1 for label in np.unique(mask))


def test_soft_labels_by_hand() -> None:
    groups = np.array([[0, 0, 0, 0], [1, 1, 1, 2]], dtype=np.uint8)
    mask = np.array([[2, 2, 2, 1], [255, 0, 0, 255]], dtype=np.uint8)
    assert soft_labels(groups, mask, 4, 3).tolist() == [[0, 0.25, 0.75], [1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_equally_near_features_are_taken_in_the_banks_order() -> None:
    features = np.array([[1.0, 0], [-1, 0], [0, 1], [0, 3], [0, -1], [1, 0]])
    labels = np.eye(6)
    bank = Bank(features, labels)
    assert nearest(bank, np.zeros((1, 2)), 5).tolist() == [[0, 1, 2, 4, 5]]
    assert vote(bank, np.array([[3, 1, 1], [2, 4, 0]]), [1, 2, 3]) == {
        1: pytest.approx([3, 2]),
        2: pytest.approx([1, 2]),
        3: pytest.approx([1, 0]),
    }


def test_the_bank_keeps_the_first_of_each_class_and_no_segment_without_pixels() -> None:
    builder = BankBuilder(per_class=2)
    for number in range(3):
        builder.add(np.full((3, 2), float(number)), np.array([[1.0, 0], [0.3, 0.7], [0, 0]]))
    bank = builder.build()
    assert bank.features[:, 0].tolist() == [0, 0, 1, 1]
    assert bank.labels.tolist() == [[1, 0], [0.3, 0.7]] * 2
    with pytest.raises(RegroupError, match="no segment of the training split covers a scored pixel"):
        BankBuilder(3).build()
    with pytest.raises(RegroupError, match="5 nearest neighbours of 4 features; use a smaller K"):
        nearest(bank, np.zeros((1, 2)), 5)


def test_a_dataset_without_background_has_no_second_analysis(model: GroupViT, tmp_path: Path) -> None:
    base = tmp_path / "ADEChallengeData2016"
    for split in ("training", "validation"):
        for folder in ("images", "annotations"):
            (base / folder / split).mkdir(parents=True)
        for number in range(2):
            stem = f"ADE_{split}_{number:08d}"
            Image.new("RGB", (40, 36), ("green", "red")[number]).save(base / f"images/{split}/{stem}.jpg")
            Image.new("L", (40, 36), 5 + number).save(base / f"annotations/{split}/{stem}.png")
    dataset = DatasetParams(source="ade", protocol="ade150")
    scores = dissect(model, dataset, SMALL, DissectParams(neighbours=(1,), chosen=1), tmp_path)
    assert list(scores) == ["k1", "alignment"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--datasets", "cityscapes"], "no 'cityscapes'; known: coco, voc, context, ade"),
        (
            ["--datasets", "voc", "--neighbours", "0"],
            "argument --neighbours: '0' is not possible: a whole number from 1 to 10,000",
        ),
        (["--datasets", "voc", "--neighbours", "5000"], "5000 nearest neighbours of"),
    ],
)
def test_bad_input_is_one_message(
    model: GroupViT, voc: Path, tmp_path: Path, capsys, arguments: list[str], complaint: str
) -> None:
    save_checkpoint(model, tmp_path / "checkpoint")
    params = Path(__file__).parents[2] / "params.yaml"
    words = ["dissect", str(tmp_path / "checkpoint"), "--params", str(params), "--root", f"voc12={voc}"]
    with pytest.raises(SystemExit) as end:
        main([*words, "--out", str(tmp_path / "out"), *arguments])
    assert end.value.code == 2
    assert complaint in capsys.readouterr().err


def test_the_command_writes_a_file_for_each_row_and_the_same_bytes_twice(
    model: GroupViT, voc: Path, tmp_path: Path, capsys
) -> None:
    save_checkpoint(model, tmp_path / "checkpoint")
    params = Path(__file__).parents[2] / "params.yaml"
    contents = []
    for _ in range(2):
        with pytest.raises(SystemExit) as end:
            main(
                [
                    "dissect", str(tmp_path / "checkpoint"), "--params", str(params), "--datasets", "voc",
                    "--root", f"voc12={voc}", "--neighbours", "3", "5", "--out", str(tmp_path / "out"),
                ]
            )  # fmt: skip
        assert not end.value.code
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert contents[0] == contents[1]
    rows = {"k3.json", "k5.json", "k3_wb.json", "k5_wb.json"}
    rows |= {"alignment.json", "alignment_wb.json", "alignment_given.json"}
    assert set(contents[0]) == rows | {"dissection.csv", "dissection.md", ".made-by-regroup"}
    metrics = json.loads(contents[0]["k5.json"])
    assert metrics["profile"] == "mini"
    assert metrics["datasets"]["voc"]["protocol"]["neighbours"] == 5
    assert f"| {metrics['datasets']['voc']['values']['miou']:.2f} |" in contents[0]["dissection.md"].decode()
    assert "(mini)" in capsys.readouterr().out


def test_the_metrics_files_fill_tables_1_and_2(model: GroupViT, voc: Path, tmp_path: Path) -> None:
    from tests.thesis import build_table

    save_checkpoint(model, tmp_path / "checkpoint")
    params = DissectParams(neighbours=(5, 10), chosen=10)
    scores = dissect(model, VOC, SMALL, params, voc)
    write_dissection(
        by_analysis({"voc": scores}),
        tmp_path,
        variant="original",
        profile="mini",
        drawn=True,
        checkpoint=tmp_path / "checkpoint",
    )
    table = build_table(
        1,
        {"visual_grouping_wb": [tmp_path / "k10_wb.json"], "alignment": [tmp_path / "alignment_given.json"]},
        profile="mini",
        drawn=True,
    )
    ours = {row.id: row.cells[0].ours for row in table.rows}
    assert ours["alignment"].mean == scores["alignment_given"].miou
    assert ours["visual_grouping_wb"].mean == scores["k10_wb"].miou
    assert ours["original"] is None
