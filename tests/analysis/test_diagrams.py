"""Diagrams: what they say of a model is so, and it can be read."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch

from regroup.analysis.diagrams import diagrams
from regroup.analysis.method_diagrams import entropy_diagram, inference_diagram, teacher_diagram
from regroup.analysis.model_diagrams import (
    architecture_diagram,
    block_diagram,
    grouping_diagram,
    trained_parts,
)
from regroup.analysis.settings import FigureParams
from regroup.drawing.diagram import Box, Diagram
from regroup.drawing.figures import Drawn
from regroup.model import GroupViT, GroupViTConfig, ImageConfig, StageConfig
from regroup.model.config import DinoConfig
from regroup.segmentation.settings import InferenceParams

PUBLISHED = GroupViTConfig()
THREE_BLOCKS = GroupViTConfig(
    image=ImageConfig(stages=(StageConfig(4, 64), StageConfig(2, 8), StageConfig(3, 4), StageConfig(3)))
)
ONE_BLOCK = GroupViTConfig(image=ImageConfig(stages=(StageConfig(6, 64), StageConfig(6))))
INFERENCE = InferenceParams(short_side=448, long_side=2048, window=448, stride=224)


def every(config: GroupViTConfig) -> Iterator[Drawn]:
    trained = {"image.stages.0.grouping", "image_projector"}
    yield block_diagram(config, "full")
    yield architecture_diagram(config, trained, "full", "a-variant-of-some-long-name")
    yield grouping_diagram(config, trained, "full", "a-variant-of-some-long-name")
    yield inference_diagram(config, INFERENCE, "full")
    yield entropy_diagram(config, trained, "full", "a-variant-of-some-long-name")
    yield teacher_diagram(DinoConfig(), "full")
    yield teacher_diagram(DinoConfig(kind="stand-in"), "mini")


def said(drawn: Drawn) -> str:
    return "\n".join(drawn.data["text"].tolist())


@pytest.mark.parametrize("config", [PUBLISHED, THREE_BLOCKS, ONE_BLOCK])
def test_words_stay_in_their_boxes_and_boxes_apart(config: GroupViTConfig) -> None:
    for drawn in every(config):
        axes = drawn.figure.axes[0]
        renderer = drawn.figure.canvas.get_renderer()
        to_data = axes.transData.inverted()
        texts = {text.get_text(): text for text in axes.texts}
        boxes = [Box(*place, text) for place, text in zip(drawn.data["box"], drawn.data["text"], strict=True)]
        for box in boxes:
            extent = to_data.transform_bbox(texts[box.text].get_window_extent(renderer))
            assert abs(extent.x1 - extent.x0) < box.width, f"{drawn.name}: {box.text}"
            assert abs(extent.y1 - extent.y0) < box.height, f"{drawn.name}: {box.text}"
            assert box.left[0] >= 0
            assert box.right[0] <= 7
            assert box.bottom[1] <= axes.get_ylim()[0] - 0.35, f"{drawn.name}: {box.text} on the legend"
        for number, one in enumerate(boxes):
            for other in boxes[:number]:
                beside = abs(one.x - other.x) >= (one.width + other.width) / 2
                above = abs(one.y - other.y) >= (one.height + other.height) / 2
                assert beside or above, f"{drawn.name}: {one.text!r} and {other.text!r}"


def test_sizes_are_the_published_model_s() -> None:
    drawn = {one.name: said(one) for one in every(PUBLISHED)}
    architecture = drawn["architecture"]
    for words in (
        "image, 224 x 224 px",
        "196 patches of 16 x 16 px\nto 384 channels",
        "stage 1: 6 transformer blocks\n196 + 64 tokens",
        "grouping block 1\n196 tokens to 64 segments",
        "stage 2: 3 transformer blocks\n64 + 8 tokens",
        "grouping block 2\n64 tokens to 8 segments",
        "stage 3: 3 transformer blocks\n8 segments",
        "384 to 4096 to 256 channels",
        "text tower: 12 transformer blocks\n256 channels, 4 heads",
    ):
        assert words in architecture
    assert "A2 x A1 = [8, 784]" in drawn["inference"]
    assert "[8, 196] (eq. 34)" in drawn["entropy-penalties"]
    assert "self-attention, 6 heads\nof 64 channels" in drawn["transformer-block"]


def test_other_numbers_of_grouping_blocks_are_drawn_as_they_are() -> None:
    three = said(architecture_diagram(THREE_BLOCKS, (), "full", "blocks-3"))
    assert "grouping block 3\n8 tokens to 4 segments" in three
    assert "A3 x A2 x A1 = [4, 784]" in said(inference_diagram(THREE_BLOCKS, INFERENCE, "full"))
    one = said(architecture_diagram(ONE_BLOCK, (), "full", "blocks-1"))
    assert "grouping block 2" not in one
    assert "A1 = [64, 784]" in said(inference_diagram(ONE_BLOCK, INFERENCE, "full"))


def test_trained_layers_are_those_whose_weights_moved(model: GroupViT) -> None:
    tuned = copy.deepcopy(model)
    assert trained_parts(model, tuned) == frozenset()
    with torch.no_grad():
        tuned.image.stages[1].grouping.assignment.query.weight += 1
        tuned.image_projector.norm.running_mean += 1  # moves in runs that leave the projector frozen, too
    found = trained_parts(model, tuned)
    assert "image.stages.1.grouping" in found
    assert "image.stages.0.grouping" not in found
    assert "image_projector" not in found


def test_a_profile_draws_six_diagrams_with_its_models(model: GroupViT) -> None:
    tuned = copy.deepcopy(model)
    with torch.no_grad():
        tuned.image.stages[0].grouping.assignment.query.weight += 1
    figures = FigureParams(
        pretrained="start",
        fine_tuned="tuned",
        group_entropy="start",
        unpenalised="start",
        label_entropy="start",
        baseline="start",
        datasets=("voc",),
        dissected=None,
        compared=(),
    )
    drawn = list(diagrams({"start": model, "tuned": tuned}, figures, INFERENCE, DinoConfig(), "mini"))
    assert sorted(number for one in drawn for number in one.caption.thesis) == [2, 3, 4, 5, 8, 11]
    by_name = {one.name: one for one in drawn}
    assert "Trained are the layers in which tuned differs" in by_name["architecture"].caption.caption
    assert legend_of(by_name["architecture"]) >= {"layers that are trained", "layers that stay as pretrained"}
    assert "layers that are trained" not in legend_of(by_name["entropy-penalties"]), "nothing is, in `start`"


def legend_of(drawn: Drawn) -> set[str]:
    return {text.get_text() for text in drawn.figure.texts}


def test_a_diagram_s_colours_are_explained_where_they_are_used() -> None:
    diagram = Diagram("A title", "mini", 1.0, ["A note."], {"frozen": "layers"})
    diagram.box(1, 0.5, "one", "frozen")
    assert {text.get_text() for text in diagram.finish().texts} == {"A title (mini)", "A note.", "layers"}
