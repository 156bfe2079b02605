"""Corruptions against slow computations of what they say, and the same in every run."""

from __future__ import annotations

import colorsys
import io
import math

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from scipy.stats import norm

from regroup.reliability.corruptions import KINDS, LEVELS, add_noise, blur, brighten, compress, corrupt


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """RGB [40, 56, 3]: blobs, with black, white and a pure colour among them."""
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    coarse[0, 0], coarse[1, 1], coarse[2, 2] = 0, 255, (255, 0, 0)
    return np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))


def test_brightness_is_hsvs_value(image: np.ndarray) -> None:
    found = brighten(image, 0.3)
    for y, x in [(0, 0), (8, 8), (16, 16), (3, 20), (33, 50), (20, 3)]:
        hue, saturation, value = colorsys.rgb_to_hsv(*image[y, x] / 255)
        expected = colorsys.hsv_to_rgb(hue, saturation, min(1, value + 0.3))
        np.testing.assert_allclose(found[y, x], np.multiply(expected, 255), atol=0.51)


@pytest.mark.parametrize("deviation", [0.2, 1.1, 3.0])
def test_blur_is_a_gaussian(image: np.ndarray, deviation: float) -> None:
    expected = ndimage.gaussian_filter(
        image.astype(float), (deviation, deviation, 0), mode="nearest", truncate=4
    )
    np.testing.assert_allclose(blur(image, deviation), expected, atol=0.6)


def test_blur_follows_the_size_of_the_image() -> None:
    """An edge in an image twice as large is blurred over twice as many pixels."""

    def width(side: int) -> int:
        image = np.zeros((side, side, 3), dtype=np.uint8)
        image[:, side // 2 :] = 255
        row = corrupt(image, "blur", 5, seed=0, number=0)[side // 2, :, 0]
        return int(((row > 25) & (row < 230)).sum())

    assert width(448) == pytest.approx(2 * width(224), abs=2)


def test_noise_has_its_deviation() -> None:
    grey = np.full((200, 200, 3), 128, dtype=np.uint8)
    noise = add_noise(grey, 0.08, np.random.default_rng(0)).astype(float) - 128
    assert noise.mean() == pytest.approx(0, abs=0.3)
    assert noise.std() == pytest.approx(math.sqrt((0.08 * 255) ** 2 + 1 / 12), rel=0.01)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


def test_jpeg_loses_more_at_lower_quality(image: np.ndarray) -> None:
    smooth = np.asarray(Image.fromarray(image).resize((112, 80), Image.Resampling.BICUBIC))
    losses = [float(np.abs(compress(smooth, quality).astype(int) - smooth).mean()) for quality in (95, 25, 7)]
    assert losses == sorted(losses)
    assert losses[2] > 2 * losses[0] > 0


def test_levels_are_imagenet_cs() -> None:
    """Read off grey pictures of 224 pixels, as ImageNet-C has them; JPEG is compared byte for byte."""
    grey, step = np.full((224, 224, 3), 102, dtype=np.uint8), np.zeros((224, 224, 3), dtype=np.uint8)
    step[:, 112:] = 255
    more, noise, width = [], [], []
    for level in LEVELS:
        more.append((int(corrupt(grey, "brightness", level, seed=0, number=0)[0, 0, 0]) - 102) / 255)
        pixels = corrupt(grey, "noise", level, seed=0, number=0)[..., 0].ravel() / 255
        noise.append(float(np.diff(np.quantile(pixels, (0.5, norm.cdf(1))))[0]))
        row = corrupt(step, "blur", level, seed=0, number=0)[112, :, 0] / 255
        width.append(float(np.sum(row[112:] < norm.cdf(1))))  # a step becomes the normal distribution
        quality, stream = (25, 18, 15, 10, 7)[level - 1], io.BytesIO()
        Image.fromarray(step // 2).save(stream, "JPEG", quality=quality)
        found = corrupt(step // 2, "jpeg", level, seed=0, number=0)
        assert np.array_equal(found, np.asarray(Image.open(stream)))
    assert more == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5], abs=1 / 255)
    assert noise == pytest.approx([0.08, 0.12, 0.18, 0.26, 0.38], abs=0.01)
    assert width == pytest.approx([1, 2, 3, 4, 6], abs=0.6)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_get_worse_and_never_change(kind: str, image: np.ndarray) -> None:
    """The difference grows from level to level; the same image gives the same bytes."""
    wide = np.asarray(Image.fromarray(image).resize((224, 160), Image.Resampling.BICUBIC)) // 2 + 20
    worse = [corrupt(wide, kind, level, seed=3, number=5) for level in LEVELS]
    assert all(one.shape == wide.shape and one.dtype == np.uint8 for one in worse)
    distances = [float(np.abs(one.astype(int) - wide).mean()) for one in worse]
    assert distances == sorted(distances)
    assert distances[0] > 0.2
    again = corrupt(wide, kind, 2, seed=3, number=5)
    assert np.array_equal(again, worse[1])


def test_noise_is_of_seed_level_and_image(image: np.ndarray) -> None:
    found = {
        corrupt(image, "noise", level, seed=seed, number=number).tobytes()
        for level in (1, 2)
        for seed in (0, 1)
        for number in (0, 1)
    }
    assert len(found) == 8


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_of_one_pixel_stays_one(kind: str) -> None:
    pixel = np.array([[[9, 8, 7]]], dtype=np.uint8)
    assert all(corrupt(pixel, kind, level, seed=0, number=0).shape == (1, 1, 3) for level in LEVELS)
