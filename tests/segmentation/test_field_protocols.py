"""The datasets that open-vocabulary papers report beside the thesis's four: names, ids and mask files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regroup.errors import RegroupError
from regroup.model import GroupViT
from regroup.segmentation.evaluation import evaluate
from regroup.segmentation.layouts.instances import CATEGORY_IDS
from regroup.segmentation.mm import BaseSegDataset  # noqa: F401 - quiets mmseg before the next import
from regroup.segmentation.protocols import Protocol, load_protocol
from regroup.segmentation.resolved import find_samples, read_sample_mask, resolve_dataset
from regroup.segmentation.settings import DatasetParams, InferenceParams
from regroup.sources.makers.pascal_context import context_classes
from regroup.sources.mini.names import load_names

from .conftest import random_image
from .mmseg_reference import mmseg_scores

SMALL = InferenceParams(short_side=32, window=32, stride=24)
SIZES = ((34, 50), (40, 33))
STEMS = ("2008_000002", "2008_000003")

LAYOUTS = {
    # image, mask, what the mask's values are besides those of classes
    "voc20": ("VOCdevkit/VOC2012/JPEGImages/{}.jpg", "VOCdevkit/VOC2012/SegmentationClass/{}.png"),
    "voc21_words": ("VOCdevkit/VOC2012/JPEGImages/{}.jpg", "VOCdevkit/VOC2012/SegmentationClass/{}.png"),
    "context59": (
        "VOCdevkit/VOC2010/JPEGImages/{}.jpg",
        "VOCdevkit/VOC2010/SegmentationClassContext/{}.png",
    ),
    "context459": (
        "VOCdevkit/VOC2010/JPEGImages/{}.jpg",
        "VOCdevkit/VOC2010/SegmentationClassContext459/{}.png",
    ),
    "coco_stuff171": ("val2017/{}.jpg", "stuffthingmaps/val2017/{}.png"),
    "coco_stuff171_words": ("val2017/{}.jpg", "stuffthingmaps/val2017/{}.png"),
    "coco_object_words": ("val2017/{}.jpg", "stuffthingmaps/val2017/{}.png"),
    "cityscapes19": (
        "leftImg8bit/val/ulm/{}_leftImg8bit.png",
        "gtFine/val/ulm/{}_gtFine_labelIds.png",
    ),
    "ade150_words": (
        "ADEChallengeData2016/images/validation/{}.jpg",
        "ADEChallengeData2016/annotations/validation/{}.png",
    ),
    "ade847": (
        "ADE20K_2021_17_01/images_detectron2/validation/{}.jpg",
        "ADE20K_2021_17_01/annotations_detectron2/validation/{}.tif",
    ),
}


def table(protocol: Protocol) -> dict[int, int]:
    """Raw mask value to class id, written down again from what the datasets' own documents say."""
    number = len(protocol.classes)
    if protocol.name.startswith("coco"):
        things = [category - 1 for category in CATEGORY_IDS]
        if protocol.name == "coco_object_words":
            return {raw: i for i, raw in enumerate(things, start=1)} | {91: 0, 181: 0, 255: 0}
        return {raw: i for i, raw in enumerate([*things, *range(91, 182)])}
    if protocol.name == "cityscapes19":
        train_ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
        return {raw: i for i, raw in enumerate(train_ids)}
    if protocol.name in ("voc21_words", "ade847"):
        return {i: i for i in range(number)}
    return {i + 1: i for i in range(number)}  # 0 is not scored


def write_dataset(root: Path, name: str) -> dict[str, np.ndarray]:
    """Two images and masks that show any class, and what is not scored; the masks' raw values by stem."""
    protocol, wide = load_protocol(name), len(load_protocol(name).classes) > 255
    raws = np.array(sorted(table(protocol)))
    unscored = {"ade847": 65_535, "context459": 0}.get(name, 255)
    written = {}
    for seed, (stem, (height, width)) in enumerate(zip(STEMS, SIZES, strict=True)):
        image, mask = (root / pattern.format(stem) for pattern in LAYOUTS[name])
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_image(height, width, seed)).save(image)
        rng = np.random.default_rng([7, seed])
        coarse = rng.choice([*rng.permutation(raws)[:24], unscored], (6, 8))
        rows, columns = np.arange(height) * 6 // height, np.arange(width) * 8 // width
        raw = coarse[rows[:, None], columns].astype(np.uint16 if wide else np.uint8)
        Image.fromarray(raw).save(mask)
        written[stem] = raw
    if protocol.list is not None:
        listing = protocol.path(root, protocol.list, "val")
        listing.parent.mkdir(parents=True)
        listing.write_text("".join(f"{stem}\n" for stem in STEMS))
    return written


@pytest.mark.parametrize("name", LAYOUTS)
def test_scores_are_mmsegmentations_and_masks_mean_what_the_archives_say(
    name: str, model: GroupViT, tmp_path: Path
) -> None:
    raws = write_dataset(tmp_path, name)
    protocol = load_protocol(name)
    samples = find_samples(protocol, tmp_path, "val")
    assert [sample.mask for sample in samples] == [tmp_path / LAYOUTS[name][1].format(s) for s in STEMS]
    meaning = table(protocol)
    for sample, raw in zip(samples, raws.values(), strict=True):
        mask = read_sample_mask(sample, protocol, raw.shape)
        expected = np.vectorize(lambda value: meaning.get(int(value), protocol.ignored))(raw)
        assert np.array_equal(mask, expected)
    dataset = DatasetParams(source="coco", protocol=name)
    scores = evaluate(model, resolve_dataset(dataset, tmp_path), SMALL)
    expected_scores, metric = mmseg_scores(model, dataset, SMALL, tmp_path)
    assert scores.iou_metric == expected_scores
    intersect, union, _, _ = (sum(areas).double().numpy() for areas in zip(*metric.results, strict=True))
    with np.errstate(invalid="ignore"):
        assert np.array_equal(scores.iou, 100 * intersect / union, equal_nan=True)


def test_names_are_mmsegmentations_where_it_has_them() -> None:
    import mmseg.datasets

    for name, dataset in (("coco_stuff171", "COCOStuffDataset"), ("cityscapes19", "CityscapesDataset")):
        assert load_protocol(name).classes == getattr(mmseg.datasets, dataset).METAINFO["classes"]
    assert load_protocol("coco_stuff171_words").classes == load_protocol("coco_stuff171").classes


def test_the_59_have_their_published_ids_among_the_459() -> None:
    classes = load_protocol("context459").classes
    assert len(classes) == 459 == len(set(classes))
    plain = {name.replace(" ", "") for one in context_classes() for name in one.names}
    for one in context_classes():
        names = {name.replace(" ", "") for name in one.names}
        assert classes[one.id - 1].replace(" ", "") in names, one
    assert len(plain & {name.replace(" ", "") for name in classes}) >= 59
    assert list(classes) == sorted(classes), "the label maps' order is the alphabet's"


def test_the_847_are_apart_and_in_the_order_of_the_published_list() -> None:
    protocol = load_protocol("ade847")
    assert len(protocol.classes) == 847 == len(set(protocol.classes))
    assert protocol.ignored == 65_535
    # train ids of MaskFormer's list, spread over it
    published = {
        0: "wall",
        99: "aircraft carrier",
        199: "bucket",
        268: "heater",
        796: "andiron",
        846: "adding machine",
    }
    assert {i: protocol.classes[i] for i in published} == published
    # three bags, two patios, two piers: each is called by a word that it shares with no other
    assert [protocol.classes[i] for i in (114, 191, 252)] == ["bag", "traveling bag", "handbag"]
    assert [protocol.classes[i] for i in (174, 255)] == ["wharf", "pier"]
    texts = protocol.class_prompts().texts
    assert len(texts) == len(set(texts)), "no word stands for two classes"


def test_words_ask_for_the_classes_of_the_protocols_they_go_with() -> None:
    for words, plain in (
        ("ade150_words", "ade150"),
        ("voc21_words", "voc"),
        ("coco_object_words", "coco_object_stuffthingmaps"),
    ):
        mine, theirs = load_protocol(words), load_protocol(plain)
        assert mine.classes == theirs.classes
        assert (mine.images, mine.labels, mine.list) == (theirs.images, theirs.labels, theirs.list)
        assert mine.words
        assert not mine.background


def test_ids_that_coco_stuff_does_not_use_are_named(tmp_path: Path) -> None:
    write_dataset(tmp_path, "coco_stuff171")
    [sample, _] = find_samples(load_protocol("coco_stuff171"), tmp_path, "val")
    Image.fromarray(np.full((34, 50), 11, dtype=np.uint8)).save(sample.mask)  # "street sign", never annotated
    with pytest.raises(RegroupError, match=r"2008_000002\.png: ids \[11\] are outside the 171 classes"):
        read_sample_mask(sample, load_protocol("coco_stuff171"), (34, 50))


def test_stuff_of_the_drawn_world_is_asked_for_where_the_protocol_has_it() -> None:
    stuff = {concept.coco_stuff[1] for concept in load_names().concepts if concept.coco_stuff}
    drawn = resolve_dataset(DatasetParams(source="coco", protocol="coco_stuff171", names="drawn"), Path())
    names = {drawn.protocol.classes[i] for i in drawn.prompts.ids}
    assert stuff <= names
    assert {"person", "dog"} <= names
    things = resolve_dataset(
        DatasetParams(source="coco", protocol="coco_object_instances", names="drawn"), Path()
    )
    assert not stuff & {things.protocol.classes[i] for i in things.prompts.ids}
