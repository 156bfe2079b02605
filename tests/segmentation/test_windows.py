from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from regroup.model import GroupViT
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.windows import (
    background_segments,
    class_scores,
    encode_windows,
    largest_segment,
    window_boxes,
)


def boxes(length: int) -> list[tuple[int, int]]:
    return [(box.left, box.right) for box in window_boxes(10, length, 10, 5)]


def test_windows_step_by_the_stride_and_the_last_is_shifted_back_inside() -> None:
    assert boxes(10) == [(0, 10)]
    assert boxes(15) == [(0, 10), (5, 15)]
    assert boxes(17) == [(0, 10), (5, 15), (7, 17)]
    assert boxes(11) == [(0, 10), (1, 11)]


def test_a_side_shorter_than_the_window_is_one_window_of_its_own_length() -> None:
    assert [tuple(box) for box in window_boxes(4, 7, 10, 5)] == [(0, 4, 0, 7)]


def test_rows_of_windows_come_before_columns() -> None:
    tops = [(box.top, box.left) for box in window_boxes(15, 15, 10, 5)]
    assert tops == [(0, 0), (0, 5), (5, 0), (5, 5)]


def test_class_scores_by_hand() -> None:
    # two segments, three classes; the image ranks class 2 last, so it is out of its top two
    segments = [[1.0, 2.0, 5.0], [0.0, -1.0, 0.5]]
    affinity = torch.tensor([segments])
    scores = class_scores(affinity, torch.tensor([[3.0, 1.0, 0.0]]), top_k=2)[0]
    for row, values in zip(scores.tolist(), segments, strict=True):
        exps = [math.exp(v) for v in values]
        expected = [exps[i] / (exps[0] + exps[1]) * exps[i] / sum(exps) for i in (0, 1)]
        assert row == pytest.approx([*expected, 0.0], rel=1e-6)
        assert row[2] == 0.0


def test_more_top_classes_than_classes_is_all_of_them() -> None:
    affinity = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    image = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(class_scores(affinity, image, 5), affinity.softmax(-1) ** 2)


def test_background_is_below_the_threshold_but_never_a_windows_surest_segment() -> None:
    scores = torch.tensor([[[0.2, 0.6], [0.5, 0.1], [0.3, 0.2]]])
    assert background_segments(scores, 0.55).tolist() == [[False, True, True]]
    assert background_segments(scores, 0.95).tolist() == [[False, True, True]]
    assert background_segments(scores, 0.4).tolist() == [[False, False, True]]
    # at the threshold is not below it
    assert background_segments(scores, 0.5).tolist() == [[False, False, True]]


def test_encoding_follows_the_equations(model: GroupViT) -> None:
    pixels = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    classes = embed_prompts(model, ("a photo of a dog.", "a photo of a sky.", "a photo of a boat."))
    found = encode_windows(model, pixels, classes)
    text = classes.double().numpy()
    scale = min(math.exp(model.logit_scale.item()), 100)

    def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a @ b.T / np.linalg.norm(a, axis=-1, keepdims=True) / np.linalg.norm(b, axis=-1)

    for i in range(2):
        with torch.inference_mode():
            out = model.encode_image(pixels[i : i + 1], return_attention=True)
        expected = scale * cosine(out.segment_features[0].double().numpy(), text)
        assert found.logits[i].numpy() == pytest.approx(expected, rel=1e-4, abs=1e-5)
        expected = scale * cosine(out.feature.double().numpy(), text)
        assert found.image_logits[i].numpy() == pytest.approx(expected[0], rel=1e-4, abs=1e-5)
        attention = out.soft[1] @ out.soft[0]
        enlarged = F.interpolate(attention.view(1, 8, 4, 6), (32, 48), mode="bilinear")[0]
        assert torch.equal(found.segment_map[i].long(), enlarged.argmax(0))
    assert len(found.segment_map.unique()) > 2


def test_classes_do_not_see_each_other_and_are_on_the_unit_sphere(model: GroupViT) -> None:
    both = embed_prompts(model, ("a photo of a dog.", "a photo of a traffic light."))
    one = embed_prompts(model, ("a photo of a traffic light.",))
    assert torch.allclose(both[1:], one, atol=1e-6)
    assert torch.allclose(both.norm(dim=-1), torch.ones(2))


def test_a_window_that_patches_do_not_divide_is_padded_not_stretched(model: GroupViT) -> None:
    pixels = torch.randn(1, 3, 30, 41, generator=torch.Generator().manual_seed(0))
    classes = embed_prompts(model, ("a photo of a dog.",))
    padded = encode_windows(model, F.pad(pixels, (0, 7, 0, 2)), classes)
    found = encode_windows(model, pixels, classes)
    assert torch.equal(found.segment_map, padded.segment_map[:, :30, :41])
    assert torch.equal(found.logits, padded.logits)


def test_windows_of_a_batch_do_not_change_each_other(model: GroupViT) -> None:
    pixels = torch.randn(5, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    classes = embed_prompts(model, ("a photo of a dog.", "a photo of a sky."))
    together = encode_windows(model, pixels, classes)
    for i in range(5):
        alone = encode_windows(model, pixels[i : i + 1], classes)
        for one, many in zip(alone, together, strict=True):
            assert torch.equal(one[0], many[i])


def test_the_largest_group_is_argmaxs_first_of_equals() -> None:
    attention = torch.randint(0, 3, (2, 5, 7, 6), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(largest_segment(attention), attention.argmax(dim=1).to(torch.uint8))
    assert torch.equal(largest_segment(attention[:, :1]), torch.zeros(2, 7, 6, dtype=torch.uint8))
