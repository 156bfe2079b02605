"""Choices between captions: against plain loops in float64, and the layouts that they come in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from regroup.errors import RegroupError
from regroup.features import image_features, square, text_features
from regroup.metrics import DatasetScores
from regroup.model import GroupViT
from regroup.tasks import TASKS, Work, evaluation
from regroup.tasks.compositionality import Margins

WORDS = ("red", "blue", "tall", "tiny", "old", "green", "wet", "round")


def plain_accuracy(
    images: list[list[float]], captions: list[list[list[float]]], groups: list[str], least: int | None
) -> float:
    """A choice at a time, in Python's own floats."""

    def cosine(a: list[float], b: list[float]) -> float:
        dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))

    right: dict[str, list[bool]] = {}
    for image, options, group in zip(images, captions, groups, strict=True):
        true, *others = (cosine(image, option) for option in options)
        right.setdefault("" if least is None else group, []).append(
            all(true > other + 1e-6 for other in others)
        )
    means = [sum(some) / len(some) for some in right.values() if least is None or len(some) >= least]
    return 100 * math.fsum(means) / len(means)


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    """Ten pictures in COCO's layout, and two kinds of pairs about eight of them."""
    rng = np.random.default_rng(1)
    coco, pairs = tmp_path / "coco", tmp_path / "pairs"
    (coco / "val2017").mkdir(parents=True)
    pairs.mkdir()
    for number in range(10):
        coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((50 + number, 40)).save(coco / f"val2017/{number}.png")
    for kind, count in (("swap_att", 8), ("size", 5)):
        write(pairs / f"{kind}.json", [pair(f"{k % 8}.png", *captions(rng)) for k in range(count)])
    return {"coco": coco, "compositions": pairs}


def captions(rng: np.random.Generator) -> tuple[str, str]:
    first, second = (str(word) for word in rng.permutation(WORDS)[:2])
    return f"a {first} dog and a {second} cat", f"a {second} dog and a {first} cat"


def pair(name: str, caption: str, negative: str) -> dict[str, str]:
    return {"filename": name, "caption": caption, "negative_caption": negative}


def write(path: Path, content: list[dict[str, str]]) -> None:
    path.write_text(json.dumps({str(k): one for k, one in enumerate(content)}))


def score(model: GroupViT, roots: dict[str, Path], **options: Any) -> DatasetScores:
    found = evaluation("compositionality", options).run(model, Work(roots))
    return next(iter(found.datasets.values()))


def expected(
    model: GroupViT, cases: list[tuple[Path, list[str]]], groups: list[str], least: int | None
) -> float:
    """From features that are encoded one by one."""
    images = [image_features(model, [path], size=32, batch=1)[0].tolist() for path, _ in cases]
    texts = [[text_features(model, [one])[0].tolist() for one in options] for _, options in cases]
    return plain_accuracy(images, texts, groups, least)


def test_every_kind_is_that_of_a_plain_loop(model: GroupViT, roots: dict[str, Path]) -> None:
    found = evaluation("compositionality", {"batch": 3}).run(model, Work(roots))
    scores = found.datasets["compositions"]
    for kind in ("swap_att", "size"):
        content = json.loads((roots["compositions"] / f"{kind}.json").read_text()).values()
        cases = [
            (roots["coco"] / "val2017" / one["filename"], [one["caption"], one["negative_caption"]])
            for one in content
        ]
        assert scores.values[kind] == pytest.approx(expected(model, cases, [""] * len(cases), None)), kind
    assert scores.values["macro"] == pytest.approx((scores.values["swap_att"] + scores.values["size"]) / 2)
    assert set(scores.values) == set(found.metrics) == {"macro", "swap_att", "size"}
    assert (scores.images, scores.protocol["choices"]) == (8, {"swap_att": 8, "size": 5})
    assert scores.details["chance"] == {"macro": 50, "swap_att": 50, "size": 50}
    items = pq.read_table(pa.BufferReader(found.files["choices.parquet"])).to_pylist()
    right = [row["margin"] > 1e-6 for row in items if row["kind"] == "swap_att"]
    assert scores.values["swap_att"] == 100 * sum(right) / 8


@pytest.mark.parametrize("least", [None, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_accuracy_is_that_of_a_plain_loop(seed: int, least: int | None) -> None:
    """One to four wrong captions a choice, groups of uneven size, some features equal to others."""
    draw = np.random.default_rng(seed)
    images = draw.normal(size=(40, 4)).tolist()
    options = [draw.normal(size=(draw.integers(2, 6), 4)).tolist() for _ in range(40)]
    options[3][1] = options[3][0]
    groups = [str(draw.choice(["on", "under", "eating", "in"], p=[0.6, 0.3, 0.08, 0.02])) for _ in range(40)]
    margins = []
    for image, some in zip(images, options, strict=True):
        unit = [np.array(one) / np.linalg.norm(one) for one in some]
        cosines = [float(one @ (np.array(image) / np.linalg.norm(image))) for one in unit]
        margins.append(cosines[0] - max(cosines[1:]))
    ours = Margins(np.array(margins), tuple(groups)).accuracy(least)
    assert ours == pytest.approx(plain_accuracy(images, options, groups, least))


def test_no_group_large_enough_is_no_mean() -> None:
    with pytest.raises(ValueError, match="none of 2 groups has 3 choices"):
        Margins(np.ones(3), ("a", "b", "a")).accuracy(3)


def test_a_model_that_tells_nothing_apart_is_never_right(model: GroupViT, roots: dict[str, Path]) -> None:
    from copy import deepcopy

    blind = deepcopy(model)
    with torch.no_grad():
        blind.text_projector.out.weight.zero_()
        blind.text_projector.out.bias.fill_(1)
    scores = score(blind, roots)
    assert set(scores.values.values()) == {0.0}
    assert scores.details["ties"] == {"swap_att": 8, "size": 5}


def test_means_of_groups_are_of_whole_groups(model: GroupViT, roots: dict[str, Path]) -> None:
    folder = roots["compositions"]
    (folder / "swap_obj.json").write_bytes((folder / "size.json").read_bytes())
    scores = score(model, roots)
    assert scores.values["swap_obj"] == scores.values["size"]
    assert scores.values["swap_mean"] == (scores.values["swap_att"] + scores.values["swap_obj"]) / 2
    assert "add_mean" not in scores.values
    assert set(score(model, roots, kinds=["size"], limit=2).values) == {"macro", "size"}


def test_what_is_odd_about_captions_is_counted(model: GroupViT, roots: dict[str, Path]) -> None:
    """Equal captions are wrong, and captions of more tokens than the model reads lose their end."""
    long = " ".join(["dog"] * 14)
    content = [
        pair("0.png", "A red dog", "a  red dog"),
        pair("1.png", long, f"{long} dog"),  # 16 tokens with start and end, and 17
        pair("1.png", f"{long} cat", f"{long} house"),
    ]
    write(roots["compositions"] / "size.json", content)
    scores = score(model, roots, kinds=["size"])
    assert scores.details["equal_captions"] == {"size": 1}
    assert scores.details["truncated_captions"] == {"size": 3}
    assert scores.details["ties"]["size"] >= 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"size\.json: is empty"),
        ([], r"size\.json: holds a list"),
        ({"0": {"filename": "0.png", "caption": "a"}}, r"size\.json: 0\.negative_caption: is missing"),
        ({"0": 7}, r"0\.filename: is in a int, not in an object"),
        ({"7": pair("0.png", "a dog", " ")}, r"7\.negative_caption: is empty"),
        ({"7": pair("0.png", "a dog", "a \ud83d")}, r"7\.negative_caption: is not Unicode: '\\ud83d'"),
        ({"7": pair("../0.png", "a dog", "a cat")}, r"7\.filename: .* leaves the image folder"),
        ({"7": pair("gone.png", "a", "b"), "8": pair("0.png", "a", "b")}, r"1 of the 2 pictures .*gone\.png"),
    ],
)  # fmt: skip
def test_bad_pairs_are_named(model: GroupViT, roots: dict[str, Path], content: Any, message: str) -> None:
    (roots["compositions"] / "size.json").write_text(json.dumps(content))
    with pytest.raises(RegroupError, match=message):
        score(model, roots)


def test_unknown_kinds_are_refused(model: GroupViT, roots: dict[str, Path]) -> None:
    with pytest.raises(RegroupError, match=r"'sise': no such kind of sugarcrepe; there are add_att"):
        evaluation("compositionality", {"kinds": ["sise"]})
    with pytest.raises(
        RegroupError, match=r"sugarcrape: no such layout of choices; did you mean `sugarcrepe`"
    ):
        evaluation("compositionality", {"layout": "sugarcrape"})
    with pytest.raises(RegroupError, match="has no choices of the kind count"):
        score(model, roots, kinds=["count"])
    (roots["compositions"] / "colour.json").write_text("{}")
    with pytest.raises(RegroupError, match=r"colour\.json: no such kind of pairs; there are"):
        score(model, roots)


@pytest.fixture
def aro(roots: dict[str, Path]) -> dict[str, Path]:
    """ARO's files about boxes of the same pictures."""
    rng = np.random.default_rng(3)
    root = roots["coco"].parent / "aro"
    root.mkdir()
    (roots["coco"] / "val2017").rename(root / "images")
    attributes = [["red", "tall"]] * 26 + [["old", "wet"]] * 25 + [["blue", "tiny"]] * 24
    entries = []
    for number, pair_of in enumerate(attributes):
        true, false = captions(rng)
        box = {"bbox_x": number % 9, "bbox_y": 5, "bbox_w": 20 + number % 7, "bbox_h": 30}
        named = {"relation_name": ("eating", "under", "near")[number % 3], "attributes": pair_of}
        texts = {"true_caption": true, "false_caption": false}
        entries.append({"image_path": f"{number % 10}.png", **box, **named, **texts})
    for name in ("relation", "attribution"):
        (root / f"visual_genome_{name}.json").write_text(json.dumps(entries))
    return {"aro": root}


@pytest.mark.parametrize(
    ("layout", "kind", "key", "kept"),
    [
        ("aro_attribute", "attribution", "attributes", {"red_tall", "old_wet"}),
        ("aro_relation", "relation", "relation_name", {"eating", "under"}),
    ],
)
def test_aro_is_scored_on_boxes_by_group(
    model: GroupViT, aro: dict[str, Path], tmp_path: Path, layout: str, kind: str, key: str, kept: set[str]
) -> None:
    """Pictures are cut by hand; attributes of under 25, and `near`, which holds both ways, do not count."""
    cases, groups = [], []
    for number, one in enumerate(json.loads((aro["aro"] / f"visual_genome_{kind}.json").read_text())):
        group = one[key] if isinstance(one[key], str) else "_".join(one[key])
        if group in kept:
            x, y = one["bbox_x"], one["bbox_y"]
            with Image.open(aro["aro"] / "images" / one["image_path"]) as image:
                part = image.crop((x, y, x + one["bbox_w"], y + one["bbox_h"]))
            part.save(tmp_path / f"{number}.png")
            cases.append((tmp_path / f"{number}.png", [one["true_caption"], one["false_caption"]]))
            groups.append(group)
    scores = score(model, aro, layout=layout)
    assert scores.values[kind] == pytest.approx(expected(model, cases, groups, 1))
    assert scores.values["macro"] == scores.values[kind]


def test_groups_that_are_all_too_small_are_an_error(model: GroupViT, aro: dict[str, Path]) -> None:
    with pytest.raises(RegroupError, match="attribution: none of 1 groups has 25 choices"):
        score(model, aro, layout="aro_attribute", limit=20)


def test_one_of_five_in_another_order(model: GroupViT, aro: dict[str, Path]) -> None:
    options = [
        "a red dog and a cat",
        "dog red a cat a and",
        "cat a and red a dog",
        "a  Red dog and a cat",
        "and a a",
    ]
    content = [
        {"image": "images/1.png", "caption_options": options},
        {"image": "images/2.png", "caption_options": ["dogs", "dogs"]},
        {"image": "images/3.png", "caption_options": ["a cat", "cat a"]},
    ]
    (aro["aro"] / "coco_order.json").write_text(json.dumps(content))
    scores = score(model, aro, layout="aro_order")
    told = [options[:3] + options[4:], ["a cat", "cat a"]]
    cases = [(aro["aro"] / "images" / f"{name}.png", some) for name, some in zip("13", told, strict=True)]
    assert scores.values["coco_order"] == expected(model, cases, ["", ""], None)
    assert scores.protocol["choices"] == {"coco_order": 2}
    assert scores.details["chance"] == dict.fromkeys(("macro", "coco_order"), 100 * (1 / 4 + 1 / 2) / 2)


def test_the_true_caption_has_to_be_above_each_other(model: GroupViT, aro: dict[str, Path]) -> None:
    rng = np.random.default_rng(5)
    content = [
        {"image": f"images/{k % 10}.png", "caption_options": [captions(rng)[0] for _ in range(5)]}
        for k in range(30)
    ]
    (aro["aro"] / "coco_order.json").write_text(json.dumps(content))
    cases = []
    for one in content:
        true, *others = one["caption_options"]
        if some := [other for other in others if other != true]:
            cases.append((aro["aro"] / one["image"], [true, *some]))
    found = score(model, aro, layout="aro_order").values["coco_order"]
    assert found == pytest.approx(expected(model, cases, [""] * len(cases), None))
    above_any = [(path, [true, other]) for path, (true, *others) in cases for other in others]
    assert 0 < found < expected(model, above_any, [""] * len(above_any), None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox_w": 0}, r"\[0\]\.bbox_w: is 0, not within 1 to 65535"),
        ({"bbox_x": "3"}, r"\[0\]\.bbox_x: is a str, not int"),
        ({"bbox_x": 900}, r"0\.png: box \[900, 5, 20, 30\] has nothing of its 50 x 40 pixels"),
        ({"attributes": ["red"]}, r"\[0\]: attributes: two words are wanted"),
        ({"attributes": ["red", "\ud83d"]}, r"\[0\]: the group .* is not Unicode"),
    ],
)
def test_bad_boxes_are_named(
    model: GroupViT, aro: dict[str, Path], change: dict[str, Any], message: str
) -> None:
    file = aro["aro"] / "visual_genome_attribution.json"
    content = json.loads(file.read_text())
    content[0] |= change
    file.write_text(json.dumps(content))
    with pytest.raises(RegroupError, match=message):
        score(model, aro, layout="aro_attribute")


def test_what_of_a_box_is_outside_is_black(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), (200, 200, 200)).save(tmp_path / "a.png")
    seen = square(tmp_path / "a.png", 20, (-20, 0, 40, 40))
    assert seen[:, :8].max() < 20
    assert seen[:, 12:].min() > 180


def test_features_of_parts_and_wholes_are_kept_apart(
    model: GroupViT, roots: dict[str, Path], tmp_path: Path
) -> None:
    path = roots["coco"] / "val2017/0.png"
    settings: dict[str, Any] = {"size": 32, "batch": 4, "store": tmp_path / "kept"}
    whole, part, again = (
        image_features(model, [path], boxes=boxes, **settings) for boxes in (None, [(0, 0, 20, 20)], [None])
    )
    assert torch.equal(whole, again)
    assert not torch.allclose(whole, part)
    assert torch.equal(part, image_features(model, [path], boxes=[(0, 0, 20, 20)], **settings))


def test_an_edit_of_a_layout_scores_again() -> None:
    names = {path.name for path in TASKS.files("compositionality")}
    assert {"sugarcrepe.py", "aro_order.py", "aro_relation.yaml", "_records.py"} <= names
