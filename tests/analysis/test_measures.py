"""Numbers of images behind Figures 14 and 23, against NumPy in double precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from regroup.analysis.measures import affinity_spreads, group_entropies, write_measure
from regroup.analysis.segments import WholeImage, encode_squares, square
from regroup.model import GroupViT
from regroup.report.measures import SIDES, read_images

from .conftest import blobs


def encoded(model: GroupViT, count: int = 3) -> list[WholeImage]:
    images = [blobs(30, 40, seed) for seed in range(count)]
    mask = np.zeros((30, 40), dtype=np.uint8)
    return list(encode_squares(model, ((mask, square(image, 32)) for image in images)))


def average_colours(pixels: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Patch features that need no network."""
    return torch.nn.functional.adaptive_avg_pool2d(pixels, grid).flatten(2).transpose(1, 2)


def cosine_spread(features: np.ndarray) -> float:
    """Standard deviation, as of a sample, of all pairs' cosine similarities."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return float((unit @ unit.T).std(ddof=1))


def test_spreads_of_affinities_are_those_of_all_pairs(model: GroupViT) -> None:
    images = encoded(model)
    found = affinity_spreads(model, images, average_colours)
    for k, image in enumerate(images):
        colours = average_colours(image.pixels[None], (4, 4))[0]
        assert found["dino"][k] == np.float32(found["dino"][k])
        np.testing.assert_allclose(found["dino"][k], cosine_spread(colours.double().numpy()), rtol=1e-4)
        np.testing.assert_allclose(
            found["model"][k], cosine_spread(image.patches.double().numpy()), rtol=1e-4
        )


def test_entropies_over_groups_are_means_over_patches(model: GroupViT) -> None:
    images = encoded(model)
    found = group_entropies({"a": images, "b": images[:1]})
    assert found["b"] == found["a"][:1]
    for value, image in zip(found["a"], images, strict=True):
        share = image.attention.double().numpy()
        np.testing.assert_allclose(share.sum(axis=0), 1, atol=1e-5)
        np.testing.assert_allclose(value, -(share * np.log(share)).sum(axis=0).mean(), rtol=1e-4)


def test_claims_can_read_what_is_written(tmp_path: Path) -> None:
    values = {side: [0.25, 0.5] for side in SIDES["affinity_spread"]}
    runs = dict.fromkeys(values, "a run")
    path = write_measure(tmp_path, "affinity_spread", values, title="t", unit="cosine", runs=runs)
    assert json.loads(path.read_text())["unit"] == "cosine"
    read = read_images(tmp_path, "affinity_spread")
    assert read is not None
    assert read.values["dino"] == {"000": 0.25, "001": 0.5}
    assert read_images(tmp_path, "group_entropy") is None
