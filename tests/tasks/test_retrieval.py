"""Retrieval against plain loops in float64: ranks, ties, several captions an image, equal captions."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from regroup.errors import RegroupError
from regroup.features import square
from regroup.model import GroupViT
from regroup.tasks import Work, evaluation
from regroup.tasks._ranks import chance, pair, ranks

from .conftest import CAPTIONS


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def plain_recall(
    images: np.ndarray, captions: np.ndarray, texts: list[str], owner: list[int], ks: tuple[int, ...]
) -> dict[str, float]:
    """Recall of both ways, a query at a time: every caption is a query and a candidate of its own."""
    same = [" ".join(text.lower().split()) for text in texts]
    positive = [
        {image for image, other in zip(owner, same, strict=True) if other == same[c]}
        for c in range(len(texts))
    ]

    def hits(scores: list[float], good: set[int], k: int) -> bool:
        best = max(scores[j] for j in good)
        before = [j for j, score in enumerate(scores) if j not in good and score >= best - 1e-6]
        return len(before) < k

    found = {}
    for k in ks:
        ways = [
            hits(
                [float(sum(a * b for a, b in zip(caption, image, strict=True))) for image in images], good, k
            )
            for caption, good in zip(captions, positive, strict=True)
        ]
        found[f"image_r{k}"] = 100 * sum(ways) / len(ways)
        ways = [
            hits(
                [float(sum(a * b for a, b in zip(caption, image, strict=True))) for caption in captions],
                {c for c, good in enumerate(positive) if i in good},
                k,
            )
            for i, image in enumerate(images)
        ]
        found[f"text_r{k}"] = 100 * sum(ways) / len(ways)
    return found


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_recall_is_that_of_a_plain_loop(seed: int, chunk: int) -> None:
    """Images with one to four captions; some texts of several images; features that are equal to others."""
    draw = np.random.default_rng(seed)
    texts, owner = [], []
    for image in range(12):
        for _ in range(draw.integers(1, 5)):
            texts.append(str(draw.choice(["a dog", "A  Dog", "two cats", f"thing {draw.integers(30)}"])))
            owner.append(image)
    captions = [[text for text, one in zip(texts, owner, strict=True) if one == i] for i in range(12)]
    pairs = pair(captions)
    images = unit(draw.normal(size=(12, 3)))
    images[5] = images[2]  # as similar to everything, and no positive of its captions
    distinct = unit(draw.normal(size=(len(pairs.texts), 3)))
    distinct[1] = distinct[0]
    place = {text: k for k, text in enumerate(pairs.texts)}
    features = np.stack([distinct[place[" ".join(text.lower().split())]] for text in texts])
    by_image = ranks(torch.tensor(images), torch.tensor(distinct), pairs.of_image, pairs.counts, chunk=chunk)
    by_text = ranks(torch.tensor(distinct), torch.tensor(images), pairs.of_text, [1] * 12, chunk=chunk)
    every = by_text.repeat_interleave(torch.tensor(pairs.counts))
    ours = {}
    for k in (1, 2, 5):
        ours[f"image_r{k}"] = 100 * float((every <= k).double().mean())
        ours[f"text_r{k}"] = 100 * float((by_image <= k).double().mean())
    assert ours == pytest.approx(plain_recall(images, features, texts, owner, (1, 2, 5)))


def test_a_model_that_tells_nothing_apart_hits_nothing() -> None:
    """All features equal: an order that a sort happens to give would hit now and then."""
    same = torch.ones(6, 4, dtype=torch.float64) / 2
    positives = [(k,) for k in range(6)]
    assert ranks(same, same, positives, [1] * 6, chunk=4).tolist() == [6] * 6
    assert ranks(same, same, positives, [3] * 6, chunk=4).tolist() == [16] * 6


def test_captions_of_equal_text_are_one_text() -> None:
    pairs = pair(list(CAPTIONS.values())[:4])
    assert pairs.texts[:2] == ("a red dog.", "two dogs")
    assert pairs.counts == (2, 2, 1, 1, 1, 1)
    assert pairs.of_image == ((0, 1), (2, 0), (1, 3, 4), (5,))
    assert pairs.of_text[:2] == ((0, 1), (0, 2))


@pytest.mark.parametrize(("positives", "k"), [(1, 1), (2, 3), (5, 2), (1, 7), (3, 9)])
def test_the_chance_of_a_hit_is_counted(positives: int, k: int) -> None:
    orders = list(combinations(range(7), min(k, 7)))
    assert chance(positives, 7, k) == pytest.approx(
        sum(any(j < positives for j in first) for first in orders) / len(orders)
    )


def test_what_the_model_sees_is_the_middle_at_its_own_size(tmp_path: Path) -> None:
    """Left and right thirds of a wide image are cut away; a small one is made larger."""
    wide = np.zeros((40, 120, 3), dtype=np.uint8)
    wide[:, 40:80] = (10, 200, 30)
    for scale in (1, 3):
        Image.fromarray(wide).resize((120 // scale, 40 // scale), Image.Resampling.NEAREST).save(
            tmp_path / "wide.png"
        )
        seen = square(tmp_path / "wide.png", 32)
        assert seen.shape == (32, 32, 3)
        assert np.abs(seen[:, 6:-6].astype(int) - (10, 200, 30)).max() <= 1
    Image.fromarray(wide[:, :1]).save(tmp_path / "thin.png")
    assert square(tmp_path / "thin.png", 32).shape == (32, 32, 3)


def test_a_checkpoint_is_scored_from_files(model: GroupViT, coco: Path) -> None:
    found = evaluation("retrieval", {"ks": [1, 2], "batch": 3}).run(model, Work({"coco": coco}))
    scores = found.datasets["coco"]
    values, protocol = scores.values, scores.protocol
    assert (scores.images, protocol["captions"], protocol["texts"], protocol["size"]) == (4, 8, 6, 32)
    recalls = [values[f"{way}_r{k}"] for way in ("image", "text") for k in (1, 2)]
    assert values["mean_recall"] == pytest.approx(sum(recalls) / 4)
    assert found.metrics["text_r2"].title == "text R@2"
    assert found.metrics["text_median"].unit == "rank"
    assert set(found.metrics) == set(values)
    # of the six texts `a red dog.` and `two dogs` have two images, and are two of the eight captions each
    expected = 100 * (4 * chance(2, 4, 1) + 4 * chance(1, 4, 1)) / 8
    assert scores.details["chance"]["image_r1"] == pytest.approx(expected)
    items = pq.read_table(pa.BufferReader(found.files["ranks.parquet"])).to_pylist()
    asked = [row["rank"] for row in items if row["wanted"] == "image"]
    assert len(asked) == 8
    assert values["image_r1"] == 100 * sum(rank == 1 for rank in asked) / 8
    assert values["image_median"] == np.median(asked)
    assert [row["image_id"] for row in items if row["wanted"] == "text"] == [4, 7, 9, 12]


def test_batches_and_chunks_change_no_rank(model: GroupViT, coco: Path) -> None:
    one, other = (
        evaluation("retrieval", {"batch": batch, "chunk": chunk}).run(model, Work({"coco": coco}))
        for batch, chunk in ((1, 1), (64, 512))
    )
    assert one.files == other.files


def test_a_limit_is_of_images_with_captions(model: GroupViT, coco: Path) -> None:
    scores = evaluation("retrieval", {"limit": 2}).run(model, Work({"coco": coco})).datasets["coco"]
    assert (scores.images, scores.protocol["captions"], scores.protocol["texts"]) == (2, 4, 3)


def test_what_is_missing_is_named(model: GroupViT, coco: Path) -> None:
    with pytest.raises(RegroupError, match=r"captions_train2017\.json: no such file"):
        evaluation("retrieval", {"split": "train"}).run(model, Work({"coco": coco}))
    (coco / "val2017" / f"{7:012}.png").unlink()
    with pytest.raises(RegroupError, match="1 of the 4 images"):
        evaluation("retrieval", {}).run(model, Work({"coco": coco}))


def test_features_that_are_no_numbers_are_no_score(model: GroupViT, coco: Path) -> None:
    from copy import deepcopy

    broken = deepcopy(model)
    with torch.no_grad():
        broken.image_projector.out.bias.fill_(math.nan)
    with pytest.raises(RegroupError, match="features of images are not finite"):
        evaluation("retrieval", {}).run(broken, Work({"coco": coco}))
