from __future__ import annotations

import pytest

from regroup.captions.tokens import tokenize
from regroup.errors import RegroupError
from regroup.segmentation.mm import BaseSegDataset  # noqa: F401 - quiets mmseg before the next import
from regroup.segmentation.protocols import free_prompts, load_protocol, read_protocol

SHORTENED = {
    "diningtable": "table",
    "pottedplant": "plant",
    "tvmonitor": "monitor",
}


@pytest.mark.parametrize(
    ("name", "dataset", "changed"),
    [
        ("voc", "PascalVOCDataset", SHORTENED),
        ("context60", "PascalContextDataset", {**SHORTENED, "aeroplane": "airplane"}),
        ("context59", "PascalContextDataset59", {**SHORTENED, "aeroplane": "airplane"}),
        ("ade150", "ADE20KDataset", {"bed ": "bed"}),
    ],
)
def test_names_are_mmsegmentations_but_for_the_documented_changes(
    name: str, dataset: str, changed: dict[str, str]
) -> None:
    import mmseg.datasets

    published = getattr(mmseg.datasets, dataset).METAINFO["classes"]
    assert load_protocol(name).classes == tuple(changed.get(word, word) for word in published)


def test_coco_names_are_those_of_the_things_of_coco_stuff() -> None:
    import mmseg.datasets

    things = mmseg.datasets.COCOStuffDataset.METAINFO["classes"][:80]
    for form in ("stuffthingmaps", "instances"):
        assert load_protocol(f"coco_object_{form}").classes == ("background", *things)


def test_the_space_after_mmsegmentations_bed_does_not_change_its_tokens() -> None:
    with_space, without = tokenize(["a photo of a bed .", "a photo of a bed."])
    assert with_space.tolist() == without.tolist()


def test_thresholds_are_the_thesiss() -> None:
    thresholds = {
        "voc": 0.95,
        "context60": 0.35,
        "context59": 0.35,
        "coco_object_stuffthingmaps": 0.9,
        "coco_object_instances": 0.9,
        "ade150": 0.95,
    }
    assert {name: load_protocol(name).threshold for name in thresholds} == thresholds


def test_a_restricted_protocol_keeps_the_datasets_ids_and_prompts_only_for_the_names() -> None:
    labels = load_protocol("voc").class_prompts(["dog", "aeroplane"])
    assert labels.ids == (0, 1, 12)
    assert labels.texts == ("a photo of a aeroplane.", "a photo of a dog.")
    without_background = load_protocol("ade150").class_prompts(["sky", "wall"])
    assert without_background.ids == (0, 2)


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ([], "empty; name at least one"),
        (["dog", "cat", "dog "], "named twice: dog"),
        (["dog", " "], "a class name is empty"),
        (["dog", "unicorn"], "no class is called 'unicorn'"),
        (["background"], "no class is left but the background"),
    ],
)
def test_bad_class_lists_are_refused(names: list[str], complaint: str) -> None:
    with pytest.raises(RegroupError, match=complaint):
        load_protocol("voc").class_prompts(names)


def test_ones_own_classes() -> None:
    assert free_prompts(["red car", "sky"], background=True).ids == (0, 1, 2)
    assert free_prompts(["red car", "sky"], background=False).ids == (0, 1)
    with pytest.raises(RegroupError, match="named twice: sky"):
        free_prompts(["sky", "sky"], background=False)


def test_a_protocol_file_with_a_class_twice_or_a_wrong_key_names_the_file(tmp_path) -> None:
    good = "title: t\nsource: s\nthreshold: 0.5\nbackground: false\nmasks: ids\nimages: i\nlabels: l\n"
    path = tmp_path / "mine.yaml"
    path.write_text(good + "classes: [dog, dog]\n")
    with pytest.raises(RegroupError, match=r"mine\.yaml: classes: class named twice: dog"):
        read_protocol(path)
    path.write_text(good + "classes: []\n")
    with pytest.raises(RegroupError, match=r"mine\.yaml: classes: .*empty"):
        read_protocol(path)
    path.write_text(good + "classes: [dog]\ntreshold: 0.4\n")
    with pytest.raises(RegroupError, match=r"mine\.yaml: treshold: unknown key"):
        read_protocol(path)
