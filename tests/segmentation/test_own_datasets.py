"""Any folder of images and masks is a dataset by a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML

from regroup.cli import main
from regroup.errors import RegroupError
from regroup.model import GroupViT, save_checkpoint
from regroup.segmentation.evaluation import evaluate
from regroup.segmentation.protocols import ClassPrompts, Protocol, load_protocol, read_protocol
from regroup.segmentation.resolved import ResolvedDataset, find_samples, resolve_dataset
from regroup.segmentation.settings import DatasetParams, InferenceParams
from regroup.settings import parse

SMALL = InferenceParams(short_side=48, window=48, stride=24)
PLAIN = {"classes": ["road", "car", "sky"], "background": False, "images": "images", "labels": "masks"}
TRAFFIC = {"road": 7, "car": [26, 27], "sky": 23}


def describe(folder: Path, **keys: Any) -> Path:
    """A protocol file beside a folder."""
    path = folder / "mine.yaml"
    with path.open("w", encoding="utf-8") as file:
        YAML(typ="safe", pure=True).dump({**PLAIN, **keys}, file)
    return path


def fill(root: Path, masks: dict[str, Image.Image], *, image: str = ".jpg", mask: str = ".png") -> Path:
    """A folder `images` and a folder `masks`; names may have a folder in them."""
    for number, (stem, one) in enumerate(masks.items()):
        for path in (root / "images" / f"{stem}{image}", root / "masks" / f"{stem}{mask}"):
            path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (*one.size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{stem}{image}")
        one.save(root / "masks" / f"{stem}{mask}")
    return root


def grey(*rows: list[int], kind: type[np.generic] = np.uint8) -> Image.Image:
    return Image.fromarray(np.array(rows, dtype=kind))


def resolved(protocol: Protocol, root: Path) -> ResolvedDataset:
    return ResolvedDataset(protocol.name, protocol, protocol.class_prompts(), protocol.threshold or 0, root)


def masks(path: Path, root: Path) -> list[list[list[int]]]:
    dataset = resolved(read_protocol(path), root)
    return [dataset.read(number)[0].tolist() for number in range(len(dataset.samples))]


def test_voc_without_background_is_mmsegs_own_dataset(voc: Path) -> None:
    from mmseg.datasets import PascalVOCDataset
    from mmseg.datasets.transforms import LoadAnnotations

    ours = resolve_dataset(DatasetParams(source="voc12", protocol="voc20"), voc)
    theirs = PascalVOCDataset(
        ann_file="ImageSets/Segmentation/val.txt",
        data_root=str(voc / "VOCdevkit/VOC2012"),
        data_prefix={"img_path": "JPEGImages", "seg_map_path": "SegmentationClass"},
        metainfo={"classes": PascalVOCDataset.METAINFO["classes"][1:]},
        reduce_zero_label=True,
        pipeline=[LoadAnnotations()],
    )
    assert len(theirs) == len(ours.samples) == 5
    for number in range(5):
        info = {**theirs.get_data_info(number), "label_map": None}
        expected = LoadAnnotations(imdecode_backend="pillow").transform(info)["gt_seg_map"]
        assert np.array_equal(ours.read(number)[0], expected)
    assert ours.protocol.classes == load_protocol("voc").classes[1:]
    assert not ours.prompts.background


def test_values_of_a_mask_stand_for_classes_and_the_others_are_not_scored(tmp_path: Path) -> None:
    """Cityscapes: subfolders, endings of its own, label ids in place of training ids."""
    fill(
        tmp_path,
        {"ulm/ulm_1": grey([7, 26, 27, 0]), "bonn/bonn_1": grey([23, 23, 255, 33])},
        image="_leftImg8bit.png",
        mask="_gtFine_labelIds.png",
    )
    options = {"image_suffix": "_leftImg8bit.png", "mask_suffix": "_gtFine_labelIds.png", "subfolders": True}
    path = describe(tmp_path, masks={**options, "values": TRAFFIC, "others": "ignore"})
    assert masks(path, tmp_path) == [[[2, 2, 255, 255]], [[0, 1, 1, 255]]]
    path = describe(tmp_path, masks={**options, "values": TRAFFIC, "ignore": [0, 255]})
    with pytest.raises(
        RegroupError, match=r"bonn_1_gtFine_labelIds\.png: ids \[33\] are outside the 3 classes"
    ):
        masks(path, tmp_path)
    path = describe(tmp_path, masks={**options, "values": {"road": 7, "car": 26}, "others": "sky"})
    assert masks(path, tmp_path)[1] == [[0, 1, 2, 2]]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_of_a_mask_stand_for_classes(tmp_path: Path, mode: str) -> None:
    pixels = np.array([[[128, 64, 128], [0, 0, 142], [0, 0, 143], [0, 0, 0]]], dtype=np.uint8)
    fill(tmp_path, {"a": Image.fromarray(pixels).convert(mode, palette=Image.Palette.ADAPTIVE)})
    colours = {"road": [128, 64, 128], "car": ["#00008e", "#00008F"], "sky": "#4682b4"}
    path = describe(tmp_path, masks={"colours": colours, "ignore_colours": [[0, 0, 0]]})
    assert masks(path, tmp_path) == [[[0, 1, 1, 255]]]
    path = describe(tmp_path, masks={"colours": {**colours, "car": "#00008e"}})
    with pytest.raises(
        RegroupError, match=r"a\.png: colours \['#000000', '#00008f'\] are none of .* `masks\.col"
    ):
        masks(path, tmp_path)


@pytest.mark.parametrize(
    ("mode", "complaint"),
    [
        ("L", "a mask of mode L where colours are expected.*masks.values"),
        ("RGBA", "a mask that is transparent in places"),
    ],
)
def test_masks_that_have_no_plain_colours(tmp_path: Path, mode: str, complaint: str) -> None:
    fill(tmp_path, {"a": Image.new(mode, (4, 4))})
    path = describe(tmp_path, masks={"colours": {"road": "#000000", "car": "#000001", "sky": "#000002"}})
    with pytest.raises(RegroupError, match=rf"a\.png: {complaint}"):
        masks(path, tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_more_than_255_classes_need_masks_of_16_bits(model: GroupViT, tmp_path: Path, suffix: str) -> None:
    """Like ADE20K's 847 classes: 255 is a class, and 65535 is not scored."""
    rows = np.full((40, 40), 255, dtype=np.uint16)
    rows[:20, :20], rows[20:, 20:], rows[:5] = 299, 7, 65535
    fill(tmp_path, {"a": Image.fromarray(rows)}, mask=suffix)
    names = [f"thing {number}" for number in range(300)]
    protocol = read_protocol(describe(tmp_path, classes=names, masks={"mask_suffix": suffix}))
    dataset = resolved(protocol, tmp_path)
    assert np.array_equal(dataset.read(0)[0], rows)
    scores = evaluate(model, dataset, SMALL)
    true = {i: int(count) for i, count in enumerate(scores.confusion.sum(1)) if count}
    assert true == {i: int((rows == i).sum()) for i in (7, 255, 299)}


def test_images_of_several_endings_beside_their_masks(tmp_path: Path) -> None:
    fill(tmp_path, {"a": grey([0, 1])})
    fill(tmp_path, {"b": grey([2, 255])}, image=".png")
    masks_ = {"image_suffix": [".jpg", ".png"]}
    assert masks(describe(tmp_path, masks=masks_), tmp_path) == [[[0, 1]], [[2, 255]]]
    for mask in (tmp_path / "masks").iterdir():
        mask.rename(tmp_path / "images" / f"{mask.stem}_mask.png")
    masks_ |= {"mask_suffix": "_mask.png"}
    beside = describe(tmp_path, masks=masks_, labels="images")
    assert masks(beside, tmp_path) == [[[0, 1]], [[2, 255]]]
    (tmp_path / "images/a.png").write_bytes((tmp_path / "images/b.png").read_bytes())
    with pytest.raises(RegroupError, match="a is there with several endings"):
        masks(beside, tmp_path)
    with pytest.raises(RegroupError, match=r"images: 2 images do not end in \.jpg .*image_suffix"):
        masks(describe(tmp_path, masks={"mask_suffix": "_mask.png"}, labels="images"), tmp_path)


def test_of_several_words_of_a_class_the_best_counts(model: GroupViT, voc: Path) -> None:
    one = load_protocol("voc20")
    several = one.model_copy(update={"words": {"aeroplane": ("airplane", "plane", "jet")}})
    prompts = several.class_prompts(["bicycle", "aeroplane"])
    assert prompts.texts == tuple(f"a photo of a {word}." for word in ("airplane", "plane", "jet", "bicycle"))
    assert (prompts.ids, prompts.words) == ((0, 1), (3, 1))
    logits = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    expected = np.stack([logits[..., :3].numpy().max(-1), logits[..., 3].numpy()], axis=-1)
    assert np.array_equal(prompts.best_word(logits).numpy(), expected)
    # the same word under another name changes nothing; its best of one is itself
    renamed = one.model_copy(update={"words": {"aeroplane": ("aeroplane",)}})
    scores = [evaluate(model, resolved(protocol, voc), SMALL) for protocol in (one, renamed, several)]
    assert np.array_equal(scores[0].confusion, scores[1].confusion)
    assert not np.array_equal(scores[0].confusion, scores[2].confusion)
    # and the metrics file takes them
    assert scores[2].for_metrics().protocol["words"] == {"aeroplane": ["airplane", "plane", "jet"]}


def test_a_background_may_be_asked_for_by_words(tmp_path: Path) -> None:
    path = describe(tmp_path, words={"road": ["street", "wall"]})
    prompts = read_protocol(path).class_prompts()
    assert prompts == ClassPrompts(
        tuple(f"a photo of a {word}." for word in ("street", "wall", "car", "sky")),
        (0, 1, 2),
        False,
        (2, 1, 1),
    )


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"masks": {"layuot": "ids"}}, r"masks: layuot: unknown key"),
        ({"masks": {"valeus": {}}}, r"masks: valeus: unknown key; did you mean `values`"),
        ({"masks": "id"}, r"masks\.layout: id: no such mask layout; did you mean `ids`"),
        ({"masks": 3}, r"masks: the name of a layout, or a mapping"),
        ({"masks": {"values": {"rod": 1}}}, r"masks\.values: 'rod' is none of `classes`"),
        ({"masks": {"values": {"road": 1}}}, r"masks\.values: nothing stands for car, sky"),
        ({"masks": {"values": {**TRAFFIC, "sky": 7}}}, r"masks: 7 stands for road and for sky"),
        ({"masks": {"values": TRAFFIC, "ignore": 7}}, r"masks: 7 stands for road and for `ignore`"),
        ({"masks": {"values": {**TRAFFIC, "sky": 70_000}}}, r"masks: values\.sky.*65535"),
        ({"masks": {"values": TRAFFIC, "others": "nothing"}}, r"masks\.others: 'nothing' is neither"),
        (
            {"masks": {"values": TRAFFIC, "reduce_zero_label": True}},
            r"`values` and `reduce_zero_label` say twice",
        ),
        ({"masks": {"colours": {"road": [1, 2]}}}, r"colours\.road.*\[red, green, blue\] of 0 to 255"),
        ({"masks": {"ignore_colours": "#000000"}}, r"`ignore_colours` needs `colours`"),
        ({"masks": {"image_suffix": [".png", "x.png"]}}, r"image_suffix.*ends in '\.png' too"),
        (
            {"masks": {"reduce_zero_label": True}, "background": True, "threshold": 0.5},
            "set `background: false`",
        ),
        ({"background": True}, r"threshold: missing, and `background: true` needs it"),
        ({"words": {"raod": ["street"]}}, r"words: 'raod' is none of `classes`"),
        ({"words": {"road": []}}, r"words\.road: empty"),
        ({"words": {"road": ["car"]}}, r"words: 'car' stands for two classes"),
        ({"words": {"road": ["a"]}, "background": True, "threshold": 0.5}, "is found by the threshold"),
        ({"template": "a photo"}, r"template: "),
        ({"images": None}, r"images: "),
        ({"images": "/photos"}, r"images: give a path below the root of the raw data, without `\.\.`"),
        ({"labels": "../masks"}, r"labels: give a path below the root"),
        ({"list": "/etc/passwd"}, r"list: give a path below the root"),
        ({"splits": {"val": "../../etc"}}, r"splits\.val: give a path below the root"),
        ({"masks": {"ignore": [255, 1]}}, r"masks\.ignore: 1 stands for 'car', which would never be scored"),
        (
            {"classes": ["road", "c\x1b[31mar"]},
            r"classes: 'c\\x1b\[31mar' has characters that cannot be seen",
        ),
        ({"classes": [f"c{i}" for i in range(10_001)]}, r"classes: .*at most 10000 items"),
    ],
)
def test_a_bad_file_is_named_with_its_key(tmp_path: Path, keys: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RegroupError, match=rf"mine\.yaml: .*{complaint}"):
        read_protocol(describe(tmp_path, **keys))


def faulty(tmp_path: Path) -> Path:
    some: NDArray[np.uint8] = np.zeros((6, 6), dtype=np.uint8)
    names = ("good", "lacking", "size", "values", "damaged")
    fill(tmp_path, {name: Image.fromarray(some) for name in names})
    (tmp_path / "masks/lacking.png").unlink()
    Image.fromarray(some[:3]).save(tmp_path / "masks/size.png")
    Image.fromarray(some + 9).save(tmp_path / "masks/values.png")
    (tmp_path / "masks/damaged.png").write_bytes(b"\x89PNG")
    Image.fromarray(some).save(tmp_path / "masks/spare.png")
    return describe(tmp_path)


def test_check_names_what_is_wrong_with_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["datasets", "check", str(faulty(tmp_path)), "--root", str(tmp_path)])
    said = capsys.readouterr().out
    assert end.value.code == 1
    assert "never seen: car, sky" in said
    for fault in (
        "masks/spare.png: a mask without an image (1 of them)",
        "masks/damaged.png: not a readable mask",
        "masks/lacking.png: no such mask",
        "masks/size.png: the mask is 6 x 3, but",
        "masks/values.png: ids [9] are outside the 3 classes",
    ):
        assert fault in said
    assert "mine: 5 images of split val, 5 faults" in said
    with pytest.raises(RegroupError, match=r"lacking\.png: no such mask \(protocol mine\)"):
        find_samples(read_protocol(tmp_path / "mine.yaml"), tmp_path, "val")


def test_a_folder_of_ones_own_is_scored(
    model: GroupViT, voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same images and masks, described anew outside the project, score the same."""
    known = load_protocol("voc20")
    base = "VOCdevkit/VOC2012"
    values = {name: number for number, name in enumerate(known.classes, start=1)}
    path = describe(
        tmp_path,
        classes=list(known.classes),
        images=f"{base}/JPEGImages",
        labels=f"{base}/SegmentationClass",
        masks={"values": values, "ignore": [0, 255]},
    )
    expected = evaluate(model, resolved(known, voc), SMALL)
    assert np.array_equal(
        evaluate(model, resolved(read_protocol(path), voc), SMALL).confusion, expected.confusion
    )
    save_checkpoint(model, tmp_path / "checkpoint")
    command = ["datasets", "score", str(path), "--root", str(voc), "--short-side", "48", "--stride", "24"]
    with pytest.raises(SystemExit) as end:
        main([*command, "--checkpoint", str(tmp_path / "checkpoint")])
    assert end.value.code == 0
    assert f"mine: mIoU {expected.miou:.2f}, mean accuracy {expected.macc:.2f}" in capsys.readouterr().out


def test_a_profile_names_a_protocol_or_a_file_inside_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def dataset(protocol: str) -> DatasetParams:
        return parse(DatasetParams, {"source": "voc12", "protocol": protocol}, "params.yaml")

    path = describe(tmp_path).relative_to(tmp_path)
    assert load_protocol(dataset(str(path)).protocol).name == "mine"
    for given, complaint in (
        ("voc2", "protocol: voc2: no such protocol; did you mean `voc20`.*there are ade150, ade150_words"),
        ("other.yaml", "protocol: no such file in .*, the project's root"),
        (str(tmp_path / "mine.yaml"), "protocol: give a path from the project's root"),
        ("../mine.yaml", "protocol: give a path from the project's root"),
    ):
        with pytest.raises(RegroupError, match=complaint):
            dataset(given)
    with pytest.raises(
        RegroupError, match=r"source: voc21: no such source; did you mean `voc12`\?; there are ade"
    ):
        parse(DatasetParams, {"source": "voc21", "protocol": "voc"}, "params.yaml")
