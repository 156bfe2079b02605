"""Masks of 459 classes from MATLAB's label maps: exact in 16 bits, and nothing made of bad archives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from regroup.errors import RegroupError
from regroup.segmentation.protocols import load_protocol
from regroup.segmentation.resolved import find_samples, read_sample_mask
from regroup.sources.makers.pascal_context_459 import MASKS, make, make_masks


def mat(values: np.ndarray, name: str = "LabelMap", *, packed: bool = True) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, {name: values}, do_compression=packed)
    return buffer.getvalue()


def archive(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_masks_are_the_label_maps_and_the_protocol_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 460, (12, 17)).astype(np.uint16) for _ in range(2))
    file = archive(
        tmp_path / "trainval.tar.gz",
        [
            ("trainval/2008_000002.mat", mat(first)),
            ("trainval/2008_000003.mat", mat(second, packed=False)),
            ("trainval/readme.txt", b"no label map"),
            ("trainval/._2008_000002.mat", b"what another system leaves"),
        ],
    )
    assert make(file, tmp_path) == "PASCAL Context masks of 459 classes: 2"
    base = tmp_path / "VOCdevkit/VOC2010"
    assert sorted(path.name for path in (base / MASKS).iterdir()) == ["2008_000002.png", "2008_000003.png"]
    for folder in ("JPEGImages", "ImageSets/SegmentationContext"):
        (base / folder).mkdir(parents=True)
    (base / "ImageSets/SegmentationContext/val.txt").write_text("2008_000003\n")
    Image.new("RGB", (17, 12)).save(base / "JPEGImages/2008_000003.jpg")
    protocol = load_protocol("context459")
    [sample] = find_samples(protocol, tmp_path, "val")
    mask = read_sample_mask(sample, protocol, (12, 17))
    assert np.array_equal(mask, np.where(second == 0, 65_535, second.astype(int) - 1))


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ([], "no label map"),
        ([("../../2008_000002.mat", b"x"), ("/2008_000002.mat", b"x")], "no label map"),
        ([("trainval/2008_000002.mat", b"")], r"2008_000002\.mat: not a MATLAB file"),
        ([("trainval/2008_000002.mat", mat(np.zeros((4, 4)))[:150])], "not a MATLAB file"),
        ([("a/2008_000002.mat", mat(np.zeros((4, 4)), "Other"))], "no variable LabelMap"),
        ([("a/2008_000002.mat", mat(np.full((4, 4), 0.5)))], "no whole numbers"),
        ([("a/2008_000002.mat", mat(np.full((4, 4), 460, np.uint16)))], "ids 460 to 460"),
        ([("a/2008_000002.mat", mat(np.full((4, 4), -1, np.int16)))], "ids -1 to -1"),
        ([("a/2008_000002.mat", mat(np.zeros((2, 2, 2), np.uint16)))], "no picture's"),
        ([("a/2008_000002.mat", mat(np.zeros((0, 4), np.uint16)))], "no picture's"),
        ([(f"{i}/2008_000002.mat", mat(np.ones((2, 2), np.uint16))) for i in "ab"], "there twice"),
    ],
)
def test_a_bad_archive_is_named_and_leaves_nothing(
    members: list[tuple[str, bytes]], complaint: str, tmp_path: Path
) -> None:
    file = archive(tmp_path / "trainval.tar.gz", members)
    with pytest.raises(RegroupError, match=complaint):
        make_masks(file, tmp_path / "VOC2010")
    assert [path.name for path in (tmp_path / "VOC2010").iterdir()] == []


def test_a_map_that_unpacks_to_far_too_much_is_refused_by_its_header(tmp_path: Path) -> None:
    content = mat(np.zeros((9_000, 9_000), np.uint8))
    assert len(content) < 1_000_000
    file = archive(tmp_path / "trainval.tar.gz", [("a/2008_000002.mat", content)])
    with pytest.raises(RegroupError, match=r"shape \(9000, 9000\), which is no picture's"):
        make_masks(file, tmp_path / "VOC2010")


def test_what_is_no_archive_is_named(tmp_path: Path) -> None:
    file = tmp_path / "trainval.tar.gz"
    file.write_bytes(b"<html>moved</html>")
    with pytest.raises(RegroupError, match=r"trainval\.tar\.gz: not a whole tar archive"):
        make_masks(file, tmp_path / "VOC2010")
    whole = archive(file, [("a/2008_000002.mat", mat(np.ones((40, 40), np.uint16)))]).read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RegroupError, match="not a whole tar archive"):
        make_masks(file, tmp_path / "VOC2010")
