from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regroup.errors import RegroupError
from regroup.segmentation.datasets import ProtocolDataset, evaluation_pipeline
from regroup.segmentation.images import scaled_size
from regroup.segmentation.settings import InferenceParams

SMALL = InferenceParams(short_side=48, window=48, stride=24)


def load(root: Path, protocol: str = "voc") -> list[dict]:
    return list(ProtocolDataset(protocol, root, pipeline=evaluation_pipeline(SMALL)))


def test_images_are_scaled_and_masks_are_not(voc: Path) -> None:
    samples = load(voc)
    assert [tuple(sample["inputs"].shape) for sample in samples[:2]] == [(3, 48, 72), (3, 72, 48)]
    assert [tuple(s["data_samples"].gt_sem_seg.data.shape) for s in samples[:2]] == [(1, 60, 90), (1, 91, 61)]
    folder = voc / "VOCdevkit/VOC2012/SegmentationClass"
    stored = np.array(Image.open(folder / "2007_000000.png"))
    assert np.array_equal(samples[0]["data_samples"].gt_sem_seg.data[0].numpy(), stored)


def test_the_long_side_is_limited_and_a_thin_image_keeps_a_pixel() -> None:
    params = InferenceParams()
    assert scaled_size(480, 640, params) == (448, 597)
    assert scaled_size(640, 480, params) == (597, 448)
    assert scaled_size(448, 4480, params) == (205, 2048)
    assert scaled_size(3, 20_000, params) == (1, 2048)


def test_reduced_zero_label_ignores_zero_and_shifts_the_rest(tmp_path: Path) -> None:
    for folder in ("images", "annotations"):
        (tmp_path / "ADEChallengeData2016" / folder / "validation").mkdir(parents=True)
    base = tmp_path / "ADEChallengeData2016"
    Image.new("RGB", (4, 1)).save(base / "images/validation/ADE_val_00000001.jpg")
    mask = Image.fromarray(np.array([[0, 1, 150, 255]], dtype=np.uint8))
    mask.save(base / "annotations/validation/ADE_val_00000001.png")
    [sample] = load(tmp_path, "ade150")
    assert sample["data_samples"].gt_sem_seg.data.tolist() == [[[255, 0, 149, 255]]]
    (base / "images/validation/Thumbs.db").touch()
    assert len(ProtocolDataset("ade150", tmp_path)) == 1
    (base / "images/validation/ADE_val_00000002.JPG").touch()
    with pytest.raises(RegroupError, match=r"1 images do not end in \.jpg .*ADE_val_00000002\.JPG"):
        ProtocolDataset("ade150", tmp_path)


def test_a_mask_with_ids_outside_the_class_list(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png"
    mask = np.array(Image.open(path))
    mask[3, 4] = 77
    Image.fromarray(mask).save(path)
    with pytest.raises(RegroupError, match=r"2007_000001\.png: ids \[77\] are outside the 21 classes"):
        load(voc)


def test_masks_of_black_and_white_are_no_ids(voc: Path) -> None:
    folder = voc / "VOCdevkit/VOC2012/SegmentationClass"
    paths = sorted(folder.glob("*.png"))
    for number, path in enumerate(paths):
        mask = np.array(Image.open(path))
        mask[:] = 0
        mask[number:20, :] = 255
        Image.fromarray(mask).save(path)
    with pytest.raises(RegroupError, match=r"2007_000000\.png .*0 and 255 alone.* ids 0 to 20, and 255"):
        ProtocolDataset("voc", voc)
    mask = np.array(Image.open(paths[0]))
    Image.fromarray(np.where(mask > 0, 1, 0).astype(np.uint8)).save(paths[0])  # now one is as it should be
    with pytest.raises(RegroupError, match=r"2007_000001\.png: it holds 0 and 255 alone"):
        load(voc)


def test_an_outline_alone_is_not_taken_for_a_mask_of_black_and_white(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png"
    mask = np.zeros((91, 61), dtype=np.uint8)
    mask[30:40, 10:50] = 255
    Image.fromarray(mask).save(path)
    assert load(voc)[1]["data_samples"].gt_sem_seg.data.unique().tolist() == [0, 255]


def test_a_mask_of_16_bits_or_few_bits_keeps_its_ids(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png"
    ids = np.array(Image.open(path))
    Image.fromarray(ids.astype(np.uint16)).save(path)
    found = load(voc)[1]["data_samples"].gt_sem_seg.data[0].numpy()
    assert np.array_equal(found, ids)
    Image.fromarray(ids.astype(np.uint16) + 1000).save(path)
    with pytest.raises(RegroupError, match=r"ids \[1000, .*and \d+ more are outside the 21 classes"):
        load(voc)


def test_masks_lie_on_the_pixels_as_they_are_stored(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/JPEGImages/2007_000000.jpg"
    plain = load(voc)[0]["inputs"]
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.open(path).save(path, "PNG", exif=exif)
    assert np.array_equal(load(voc)[0]["inputs"], plain)
    upright = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000000.png"
    Image.fromarray(np.array(Image.open(upright)).T).save(upright)
    with pytest.raises(RegroupError, match="masks lie on the pixels as stored, without the orientation tag"):
        load(voc)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"2007_000000\n2007_000000\n", "line 2: 2007_000000 is listed twice, first in line 1"),
        (b"../../../x\n", "line 1: '../../../x' leaves the image folder"),
        (b"\xff\xfe\n", "not a list of images"),
    ],
)
def test_a_bad_list_is_named_with_the_line(voc: Path, content: bytes, complaint: str) -> None:
    path = voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    path.write_bytes(content)
    with pytest.raises(RegroupError, match=rf"val\.txt: {complaint}"):
        ProtocolDataset("voc", voc)
    path.write_bytes(b"\xef\xbb\xbf2007_000001\r\n")  # as other systems write it
    assert len(ProtocolDataset("voc", voc)) == 1


def test_image_and_mask_of_different_size(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png"
    Image.open(path).resize((30, 20)).save(path)
    with pytest.raises(RegroupError, match=r"2007_000001\.png: the mask is 30 x 20, but .*\.jpg is 61 x 91"):
        load(voc)


def test_a_mask_of_colours_instead_of_ids(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/SegmentationClass/2007_000001.png"
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(RegroupError, match=r"2007_000001\.png: a mask holds ids .* not RGB colours"):
        load(voc)


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        ("JPEGImages/2007_000002.jpg", r"2007_000002\.jpg: no such image"),
        ("SegmentationClass/2007_000002.png", r"2007_000002\.png: no such mask"),
        ("ImageSets/Segmentation/val.txt", r"val\.txt: no such list of images"),
    ],
)
def test_a_missing_file_is_found_before_any_work(voc: Path, missing: str, complaint: str) -> None:
    (voc / "VOCdevkit/VOC2012" / missing).unlink()
    with pytest.raises(RegroupError, match=complaint):
        ProtocolDataset("voc", voc)


def test_a_missing_folder_and_an_empty_list(voc: Path, tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match=r"ADEChallengeData2016.images.validation: no such folder"):
        ProtocolDataset("ade150", tmp_path)
    (voc / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(RegroupError, match="no image of split val"):
        ProtocolDataset("voc", voc)


def test_a_truncated_image(voc: Path) -> None:
    path = voc / "VOCdevkit/VOC2012/JPEGImages/2007_000000.jpg"
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(RegroupError, match=r"2007_000000\.jpg: not a readable image"):
        load(voc)


def test_limit_keeps_the_first_images_of_the_list(voc: Path) -> None:
    images = ProtocolDataset("voc", voc, limit=2)
    assert [Path(images.get_data_info(i)["img_path"]).stem for i in range(len(images))] == [
        "2007_000000",
        "2007_000001",
    ]


def test_the_dataset_can_be_built_by_mmseg(voc: Path) -> None:
    from mmseg.registry import DATASETS

    built = DATASETS.build({"type": "ProtocolDataset", "protocol": "voc", "data_root": str(voc)})
    assert len(built) == 5
    assert built.metainfo["classes"][20] == "monitor"
