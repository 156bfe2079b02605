"""Figures: the numbers they draw, and what they say beside them."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from matplotlib.figure import Figure

from regroup.analysis.affinity import affinity_figure, patch_affinity
from regroup.analysis.class_figures import (
    disparity_figure,
    embed,
    named_segments,
    read_disparities,
    tsne_figure,
)
from regroup.analysis.gallery import Gallery
from regroup.analysis.grouping_figures import (
    Shown,
    attention_figure,
    concepts_figure,
    encode_shown,
    entropy_figure,
    find_concepts,
    group_entropy,
    label_entropy,
    segments_figure,
)
from regroup.analysis.segments import enlarge
from regroup.analysis.tiles import Scale, heat, spotlit, tinted
from regroup.drawing.figures import Drawn
from regroup.drawing.labelling import OPENMOJI
from regroup.errors import RegroupError
from regroup.model import GroupViT
from regroup.segmentation.inference import Decision
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import load_protocol


def shown(count: int = 2) -> list[Shown]:
    """Images of two halves of different colours, whose mask says so."""
    found = []
    for number in range(count):
        rng = np.random.default_rng(number)
        image = np.repeat(rng.integers(0, 256, (2, 1, 3), dtype=np.uint8).repeat(20, 0), 50 + number, axis=1)
        mask = np.zeros(image.shape[:2], dtype=np.uint8)
        mask[20:] = 3
        mask[:, 0] = 255
        found.append(Shown(image, mask))
    return found


def words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)


def drawings(model: GroupViT) -> list[Drawn]:
    labels = load_protocol("voc").class_prompts()
    classes = {"a": embed_prompts(model, labels.texts), "b": embed_prompts(model, labels.texts)}
    images = shown()
    encoded = encode_shown(model, images, 32)
    points = np.random.default_rng(0).normal(size=(6, 2))
    names = ["cat", "dog", "cow"] * 2
    return [
        segments_figure({"a": model, "b": model}, images, 32, "mini", True),
        attention_figure(model, images, 32, "mini", True, "a"),
        entropy_figure(("a", model), ("b", model), ("b", model), classes, images, 32, "mini", True),
        concepts_figure(
            [(one.image, whole.segment_map(), one.mask) for one, whole in zip(images, encoded, strict=True)],
            load_protocol("voc").classes,
            background=True,
            profile="mini",
            drawn=True,
            model_name="a",
        ),
        affinity_figure(model, average_colours, images, "mini", True, ("DINO", "GroupViT")),
        disparity_figure({"voc": []}, ("a", "b"), "mini", True),
        tsne_figure({("voc", "a"): (points, names), ("voc", "b"): (points, names)}, "mini", True),
    ]


def average_colours(pixels: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Patch features that need no network."""
    return torch.nn.functional.adaptive_avg_pool2d(pixels, grid).flatten(2).transpose(1, 2)


class AverageColours:
    config = SimpleNamespace(kind="stand-in")
    __call__ = staticmethod(average_colours)


def test_affinity_is_headed_by_the_name_of_the_model(model: GroupViT) -> None:
    asked = SimpleNamespace(
        dino=AverageColours(),
        figures=SimpleNamespace(pretrained="original"),
        profile="mini",
        drawn=True,
        pretrained=model,
        _first=shown(),
    )
    figure = Gallery.affinity(cast(Gallery, asked)).figure
    assert "Affinity between patches, DINO (stand-in) and GroupViT (original) (mini)" in words(figure)


def test_every_figure_says_what_it_shows_and_that_it_is_mini(model: GroupViT, tmp_path: Path) -> None:
    for drawn in drawings(model):
        said = words(drawn.figure)
        assert "(mini)" in said.splitlines()[0], drawn.name
        assert OPENMOJI in said.replace("\n", " "), drawn.name
        assert drawn.caption.thesis
        assert drawn.caption.profile == "mini"
        assert len(drawn.caption.caption) > 60
        paths = drawn.save(tmp_path)
        assert [path.suffix for path in paths] == [".png", ".svg", ".npz", ".json"]


def test_figures_of_photographs_have_no_label_of_the_drawn_world(model: GroupViT) -> None:
    said = words(segments_figure({"a": model}, shown(), 32, "full", False).figure)
    assert "(full)" in said
    assert "OpenMoji" not in said


def test_the_same_model_draws_the_same_bytes(model: GroupViT, tmp_path: Path) -> None:
    def draw() -> dict[str, bytes]:
        drawn = segments_figure({"a": model}, shown(1), 32, "mini", True)
        return {path.name: path.read_bytes() for path in drawn.save(tmp_path)}

    assert draw() == draw()


def test_entropies_are_the_float64_computations(model: GroupViT) -> None:
    labels = load_protocol("voc").class_prompts()
    classes = embed_prompts(model, labels.texts)
    [image, _] = encode_shown(model, shown(), 32)
    with torch.no_grad():
        wide = copy.deepcopy(model).double().encode_image(image.pixels[None].double(), return_attention=True)
    attention = (wide.soft[1][0] @ wide.soft[0][0]).numpy()
    expected = [-sum(p * np.log(p) for p in attention[:, patch]) for patch in range(attention.shape[1])]
    np.testing.assert_allclose(group_entropy(image).numpy(), expected, rtol=1e-4, atol=1e-5)

    unit = wide.segment_features[0].numpy()
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    scores = np.exp(unit @ classes.numpy().astype(np.float64).T * float(np.exp(model.logit_scale.item())))
    mixed = attention.T @ (scores / scores.sum(1, keepdims=True))
    expected = -(mixed * np.log(mixed)).sum(1)
    np.testing.assert_allclose(label_entropy(model, image, classes).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert (expected < np.log(20)).all()


def test_a_certain_assignment_has_no_entropy() -> None:
    from regroup.analysis.grouping_figures import _entropy

    certain = torch.eye(3)[:, [0, 0, 2]]
    assert _entropy(certain, dim=0).tolist() == [0, 0, 0]
    assert _entropy(torch.full((4, 1), 0.25), dim=0).item() == pytest.approx(np.log(4))


def test_patch_affinity_is_cosine() -> None:
    features = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    wide = features.double().numpy()
    expected = [[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in wide] for a in wide]
    np.testing.assert_allclose(patch_affinity(features).numpy(), expected, atol=1e-6)


def test_concepts_are_segments_of_one_class_that_fit_it() -> None:
    groups = np.zeros((10, 10), dtype=np.uint8)
    groups[:5] = 1
    groups[9, 9] = 2
    mask = np.zeros((10, 10), dtype=np.uint8)
    mask[:4] = 7
    mask[9] = 8
    [found] = find_concepts([(groups, mask)], background=True)
    assert (found.image, found.group, found.label) == (0, 1, 7)
    assert found.fit == pytest.approx(40 / 50)
    assert [one.label for one in find_concepts([(groups, mask)], background=False)] == [7, 0]


def per_class(path: Path, **iou: float | None) -> Path:
    rows = [
        {
            "dataset": "voc",
            "class": name,
            "predictable": name != "hidden",
            "iou": value,
            "true": int(value is not None),
        }
        for name, value in iou.items()
    ]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_disparities_are_of_classes_that_appear_and_can_be_predicted(tmp_path: Path) -> None:
    before = per_class(tmp_path / "a.parquet", cat=40.0, dog=30.0, cow=20.0, hidden=1.0, absent=None)
    after = per_class(tmp_path / "b.parquet", cat=35.0, dog=50.0, cow=20.0, hidden=9.0, absent=None)
    found = read_disparities(before, after, "voc")
    assert [(one.name, one.change) for one in found] == [("dog", 20), ("cow", 0), ("cat", -5)]
    drawn = disparity_figure({"voc": found}, ("old", "new"), "mini", True)
    assert [patch.get_width() for patch in drawn.figure.axes[0].patches] == [20, 0, -5]
    assert [label.get_text() for label in drawn.figure.axes[0].get_yticklabels()] == ["dog", "cow", "cat"]
    with pytest.raises(RegroupError, match=r"b\.parquet: was not scored on dataset `coco`"):
        read_disparities(after, before, "coco")
    with pytest.raises(RegroupError, match=r"c\.parquet: no per-class scores; run `dvc repro`"):
        read_disparities(before, tmp_path / "c.parquet", "voc")


def test_of_many_classes_the_ten_best_and_ten_worst_are_drawn(tmp_path: Path) -> None:
    values = {f"class{k:02}": float(k) for k in range(30)}
    before = per_class(tmp_path / "a.parquet", **dict.fromkeys(values, 15.0))
    drawn = disparity_figure(
        {"coco": read_disparities(before, per_class(tmp_path / "b.parquet", **values), "voc")},
        ("a", "b"),
        "full",
        drawn=False,
    )
    names = [label.get_text() for label in drawn.figure.axes[0].get_yticklabels()]
    assert names == [f"class{k:02}" for k in [*range(29, 19, -1), *range(9, -1, -1)]]
    assert len(drawn.data["coco/class"]) == 30


def test_named_segments_are_shown_wanted_and_no_background(model: GroupViT) -> None:
    labels = load_protocol("voc").class_prompts()
    classes = embed_prompts(model, labels.texts)
    encoded = encode_shown(model, shown(6), 32)

    def named(threshold: float, wanted: set[int], most: int = 1000) -> list[int]:
        features, ids = named_segments(
            model, encoded, classes, labels, Decision(threshold, 5), wanted=wanted, most=most
        )
        assert features.shape == (len(ids), 32)
        return ids.tolist()

    every = named(0.0, set(range(21)))
    assert len(every) == sum(len(np.unique(image.segment_map())) for image in encoded)
    assert 0 not in every
    surest = named(1.0, set(range(21)))
    assert 0 < len(surest) < len(every)
    common = max(set(every), key=every.count)
    assert named(0.0, {common}) == [common] * every.count(common)
    assert named(0.0, set(range(21)), most=4) == every[:4]


def test_few_segments_need_no_embedding() -> None:
    assert embed(np.zeros((3, 8), dtype=np.float32)).shape == (3, 2)
    spread = embed(np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32))
    assert np.isfinite(spread).all()
    assert len(np.unique(spread.round(6), axis=0)) == 12


def test_heat_tint_and_spotlight() -> None:
    scale = Scale("x", "gray", 2.0, 1.0)
    assert heat(np.array([[0.0, 1.0, 1.5, 2.0, 9.0]]), scale)[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    ids = np.array([[0, 0, 1, 1]] * 4, dtype=np.uint8)
    image = np.full((4, 4, 3), 100, dtype=np.uint8)
    painted = tinted(image, ids)
    assert len(np.unique(painted.reshape(-1, 3), axis=0)) == 3, "two colours and the outline"
    lit = spotlit(image, ids == 1)
    assert (lit[:, 3] == 100).all()
    assert (lit[1:, 0] != 100).any()


def test_shown_groups_are_enlarged_bicubically_and_scored_ones_bilinearly(
    model: GroupViT, monkeypatch: pytest.MonkeyPatch
) -> None:
    [image] = encode_shown(model, shown(1), 32)
    drawn_from = torch.randn(4, image.attention.shape[1], generator=torch.Generator().manual_seed(0))
    image = replace(image, soft=(drawn_from.softmax(0),))
    height, width = image.mask.shape
    side = round(image.attention.shape[1] ** 0.5)
    maps = [part.reshape(side, side).numpy() for part in image.attention]

    def largest(how: int) -> np.ndarray:
        return np.stack([cv2.resize(part, (width, height), interpolation=how) for part in maps]).argmax(0)

    cubic, linear = largest(cv2.INTER_CUBIC), largest(cv2.INTER_LINEAR)
    assert (cubic != linear).mean() > 0.01, "or this tells nothing"
    assert (image.segment_map() == linear).mean() > 0.999, "section 5.4.1"
    monkeypatch.setattr("regroup.analysis.grouping_figures.encode_shown", lambda *_: [image])
    drawn = segments_figure({"a": model}, shown(1), 32, "mini", True)
    assert (drawn.data["00/a last stage"] == cubic).mean() > 0.999, "section 4.5"
    wide = enlarge(image.attention, height, width, resize="bicubic")
    np.testing.assert_allclose(wide.sum(0), np.ones((height, width)), atol=1e-4)


def test_affinities_are_of_the_first_images_whatever_they_show(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [(one.image, np.full_like(one.mask, number)) for number, one in enumerate(shown(12))]
    monkeypatch.setattr("regroup.analysis.gallery.numbered_images", lambda _: iter(images))
    asked = SimpleNamespace(opened=lambda _: None, dissected="voc")
    first = Gallery._first.func(cast(Gallery, asked))
    assert [int(one.mask[0, 0]) for one in first] == list(range(10)), "each shows one class alone"
