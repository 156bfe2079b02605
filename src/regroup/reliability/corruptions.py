"""Corruptions of images in fixed strengths: brightness, blur, noise, JPEG.

The strengths are those of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261), levels 1 to 5,
written anew. There images are 224 pixels wide; blur is in shares of the short side here, so that images of
other sizes are blurred as much. For RGB of 0 to 1, clipped to it, then rounded to grey levels:

    brightness   HSV's value + .1, .2, .3, .4, .5, hue and saturation as they were
    blur         Gaussian of standard deviation 1, 2, 3, 4, 6 for 224 pixels of the short side
    noise        + Gaussian noise of standard deviation .08, .12, .18, .26, .38, for each pixel and channel
    jpeg         compressed by Pillow at quality 25, 18, 15, 10, 7

The noise comes from (seed, kind, level, number of the image) alone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Literal, get_args

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

Corruption = Literal["brightness", "blur", "noise", "jpeg"]
KINDS: tuple[Corruption, ...] = get_args(Corruption)
LEVELS = (1, 2, 3, 4, 5)
Picture = UInt8[NDArray[np.uint8], "h w 3"]

_BRIGHTNESS = (0.1, 0.2, 0.3, 0.4, 0.5)
_BLUR = (1, 2, 3, 4, 6)
_BLUR_SIDE = 224
_NOISE = (0.08, 0.12, 0.18, 0.26, 0.38)
_JPEG = (25, 18, 15, 10, 7)


def corrupt(image: Picture, kind: Corruption, level: int, *, seed: int, number: int) -> Picture:
    """A corrupted copy of an RGB image [H, W, 3].

    Args:
        image: as it was decoded, before it is scaled.
        kind: one of `KINDS`.
        level: one of `LEVELS`.
        seed: of the noise.
        number: of the image in its data set.
    """
    strength = level - 1
    if kind == "brightness":
        return brighten(image, _BRIGHTNESS[strength])
    if kind == "blur":
        return blur(image, _BLUR[strength] / _BLUR_SIDE * min(image.shape[:2]))
    if kind == "noise":
        generator = np.random.default_rng([seed, KINDS.index(kind), level, number])
        return add_noise(image, _NOISE[strength], generator)
    return compress(image, _JPEG[strength])


def corruption(kind: Corruption, level: int, seed: int) -> Callable[[Picture, int], Picture]:
    """`corrupt` as a `ResolvedDataset` takes it."""
    return lambda image, number: corrupt(image, kind, level, seed=seed, number=number)


def brighten(image: Picture, more: float) -> Picture:
    """Add to HSV's value, the largest channel: all are scaled by what that one gains; black becomes grey."""
    value = image.max(axis=2, keepdims=True) / 255
    wanted = np.minimum(value + more, 1)
    scaled = image / 255 * np.divide(wanted, value, out=np.ones_like(value), where=value > 0)
    return _grey_levels(np.where(value > 0, scaled, wanted))


def blur(image: Picture, deviation: float) -> Picture:
    """Convolve with a Gaussian of this standard deviation in pixels, the edge repeated, cut off at four."""
    side = 2 * int(4 * deviation + 0.5) + 1
    blurred = cv2.GaussianBlur(
        image.astype(np.float32), (side, side), deviation, borderType=cv2.BORDER_REPLICATE
    )
    return _grey_levels(blurred / 255)


def add_noise(image: Picture, deviation: float, generator: np.random.Generator) -> Picture:
    """Add Gaussian noise of this standard deviation, for RGB of 0 to 1."""
    return _grey_levels(image / 255 + deviation * generator.standard_normal(image.shape))


def compress(image: Picture, quality: int) -> Picture:
    """Write as JPEG, with Pillow's subsampling of colour, and read again."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream).convert("RGB"))


def _grey_levels(image: NDArray[np.floating]) -> Picture:
    levels: NDArray[np.uint8] = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return levels
