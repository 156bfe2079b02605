"""Training augmentation: crop, flip, RandAugment, colour jitter, erasing; decided by the samples' keys alone.

OpenCV does the work on uint8 pixels, an image at a time: on one core it is several times faster than batched
tensor libraries, and images may differ in size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from regroup.captions.randomness import UInt64, uniforms
from regroup.model.constants import IMAGENET_MEAN, IMAGENET_STD
from regroup.training.settings import AugmentationSettings

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


_ATTEMPTS = 10  # draws of a box before falling back, as usual for random resized crops
_BOX = 2 * _ATTEMPTS + 2  # numbers that a box takes: (area, ratio) an attempt, then the place
_GREY = (128, 128, 128)

# Images are small and workers many: threads inside OpenCV only get in each other's way.
cv2.setNumThreads(1)


class Augmentation:
    """Random training views of images, normalised with ImageNet's mean and standard deviation."""

    def __init__(self, size: int, settings: AugmentationSettings | None = None) -> None:
        """Make square views of `size` pixels."""
        self.size = size
        self.settings = settings or AugmentationSettings()

    def __call__(self, images: Sequence[Pixels], *, keys: UInt64) -> Tensor:
        """Augment a batch.

        Args:
            images: RGB, uint8 [height, width, 3] each, of any sizes.
            keys: uint64 [B]; equal keys give equal draws (see `regroup.captions.randomness.sample_keys`).

        Returns:
            float32 [B, 3, size, size], normalised.
        """
        settings, size = self.settings, self.size
        draws = _Draws(uniforms(keys, 2 * _BOX + 5 + 3 * settings.rand_augment_ops, purpose=3))
        sides = np.array([image.shape[:2] for image in images], dtype=np.float64).reshape(-1, 2)
        crops = _crop_boxes(sides, draws.take(_BOX), settings.crop_scale, settings.crop_ratio)
        flips = draws.take(1)[:, 0] < settings.flip
        choices = draws.take(3 * settings.rand_augment_ops).reshape(len(images), -1, 3)
        jitter = 1 + settings.colour_jitter * (2 * draws.take(3) - 1)
        views = np.empty((len(images), size, size, 3), dtype=np.uint8)
        for index, image in enumerate(images):
            view = _resized_crop(image, crops[index], size)
            if flips[index]:
                view = _pixels(cv2.flip(view, 1))
            for choice, sign, applied in choices[index].tolist():
                if applied < settings.rand_augment_probability:
                    operation = RAND_AUGMENT[int(choice * len(RAND_AUGMENT))]
                    view = operation(view, settings.rand_augment_magnitude / 10, 1.0 if sign < 0.5 else -1.0)
            if settings.colour_jitter:
                view = _jitter(view, *jitter[index].tolist())
            views[index] = view
        batch = normalise(torch.from_numpy(views))
        erased = draws.take(1)[:, 0] < settings.erasing
        boxes = _erase_boxes(
            len(images), size, draws.take(_BOX), settings.erasing_scale, settings.erasing_ratio
        )
        for index in np.flatnonzero(erased).tolist():
            top, left, height, width = boxes[index]
            noise = np.random.Generator(np.random.SFC64(int(keys[index])))
            box = noise.standard_normal((3, height, width), dtype=np.float32)
            batch[index, :, top : top + height, left : left + width] = torch.from_numpy(box)
        return batch


def normalise(pixels: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to float32 [B, 3, H, W] with ImageNet's mean and standard deviation."""
    scale = torch.tensor(IMAGENET_STD).mul(255).reshape(1, 3, 1, 1)
    shift = torch.tensor(IMAGENET_MEAN).mul(255).reshape(1, 3, 1, 1)
    planes = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return planes.sub_(shift).div_(scale)


class _Draws:
    """Uniform numbers [B, n], taken from the front."""

    def __init__(self, numbers: Floats) -> None:
        self._numbers = numbers
        self._used = 0

    def take(self, count: int) -> Floats:
        self._used += count
        return self._numbers[:, self._used - count : self._used]


def _candidates(
    draws: Floats, area: Floats, scale: tuple[float, float], ratio: tuple[float, float]
) -> Floats:
    """Heights and widths [B, attempts, 2] with uniform area and log-uniform ratio."""
    attempts = draws[:, : 2 * _ATTEMPTS].reshape(len(draws), _ATTEMPTS, 2)
    target = area[:, None] * (scale[0] + (scale[1] - scale[0]) * attempts[..., 0])
    low, high = np.log(ratio)
    aspect = np.exp(low + (high - low) * attempts[..., 1])
    sides: Floats = np.rint(np.stack([np.sqrt(target / aspect), np.sqrt(target * aspect)], axis=-1))
    return sides


def _crop_boxes(
    sides: Floats, draws: Floats, scale: tuple[float, float], ratio: tuple[float, float]
) -> npt.NDArray[np.int64]:
    """Top, left, height, width [B, 4]: the first candidate that fits, else the largest box of legal ratio."""
    boxes = _candidates(draws, sides.prod(axis=1), scale, ratio)
    fits: Flags = np.all((boxes >= 1) & (boxes <= sides[:, None]), axis=-1)
    box = boxes[np.arange(len(sides)), fits.argmax(axis=1)]
    height, width = sides.T
    fallback = np.stack(
        [np.minimum(height, np.rint(width / ratio[0])), np.minimum(width, np.rint(height * ratio[1]))]
    )
    found = np.any(fits, axis=1, keepdims=True)
    box = np.where(found, box, np.maximum(fallback.T, 1))
    place = np.where(found, draws[:, -2:] * (sides - box + 1), (sides - box) / 2)
    return np.concatenate([place, box], axis=1).astype(np.int64)


def _erase_boxes(
    count: int, size: int, draws: Floats, scale: tuple[float, float], ratio: tuple[float, float]
) -> npt.NDArray[np.int64]:
    """Top, left, height, width [B, 4] inside a view; without area where no candidate fits."""
    boxes = _candidates(draws, np.full(count, float(size * size)), scale, ratio)
    fits: Flags = np.all((boxes >= 1) & (boxes < size), axis=-1)
    box = boxes[np.arange(count), fits.argmax(axis=1)] * np.any(fits, axis=1, keepdims=True)
    return np.concatenate([draws[:, -2:] * (size - box + 1), box], axis=1).astype(np.int64)


def _resized_crop(image: Pixels, box: npt.NDArray[np.int64], size: int) -> Pixels:
    top, left, height, width = box.tolist()
    crop = image[top : top + height, left : left + width]
    shrinks = height > size and width > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC  # area averaging does not alias
    return _pixels(cv2.resize(crop, (size, size), interpolation=interpolation))


def _jitter(view: Pixels, brightness: float, contrast: float, saturation: float) -> Pixels:
    view = _table(view, _scaled(brightness, 0.0))
    view = _table(view, _scaled(contrast, _mean_grey(view)))
    return _saturation(view, saturation)


# RandAugment's operations (Cubuk et al. 2020): (pixels, magnitude from 0 to 1, sign) -> pixels.


def _identity(view: Pixels, magnitude: float, sign: float) -> Pixels:
    return view


def _auto_contrast(view: Pixels, magnitude: float, sign: float) -> Pixels:
    """Each channel stretched to 0 .. 255, as Pillow's `ImageOps.autocontrast`."""
    tables = np.empty((256, 3), dtype=np.uint8)
    for channel in range(3):
        low, high = int(view[..., channel].min()), int(view[..., channel].max())
        scale = 255.0 / (high - low) if high > low else 1.0
        offset = -low * scale if high > low else 0.0
        tables[:, channel] = np.clip(np.arange(256) * scale + offset, 0, 255).astype(np.uint8)
    return _table(view, tables)


def _equalize(view: Pixels, magnitude: float, sign: float) -> Pixels:
    """Each channel's histogram flattened, as Pillow's `ImageOps.equalize`."""
    tables = np.empty((256, 3), dtype=np.uint8)
    for channel in range(3):
        histogram = np.bincount(view[..., channel].ravel(), minlength=256)
        used = histogram[histogram > 0]
        step = (int(used.sum()) - int(used[-1])) // 255
        before = np.cumsum(histogram) - histogram
        tables[:, channel] = np.minimum((before + step // 2) // step, 255) if step else np.arange(256)
    return _table(view, tables)


def _rotate(view: Pixels, magnitude: float, sign: float) -> Pixels:
    centre = ((view.shape[1] - 1) / 2, (view.shape[0] - 1) / 2)
    return _warp(view, cv2.getRotationMatrix2D(centre, sign * 30.0 * magnitude, 1.0))


def _shear_x(view: Pixels, magnitude: float, sign: float) -> Pixels:
    return _warp(view, np.array([[1.0, sign * 0.3 * magnitude, 0.0], [0.0, 1.0, 0.0]]))


def _shear_y(view: Pixels, magnitude: float, sign: float) -> Pixels:
    return _warp(view, np.array([[1.0, 0.0, 0.0], [sign * 0.3 * magnitude, 1.0, 0.0]]))


def _translate_x(view: Pixels, magnitude: float, sign: float) -> Pixels:
    return _warp(view, np.array([[1.0, 0.0, sign * 0.45 * magnitude * view.shape[1]], [0.0, 1.0, 0.0]]))


def _translate_y(view: Pixels, magnitude: float, sign: float) -> Pixels:
    return _warp(view, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, sign * 0.45 * magnitude * view.shape[0]]]))


def _posterize(view: Pixels, magnitude: float, sign: float) -> Pixels:
    dropped = round(4 * magnitude)  # of 8 bits
    return _table(view, (np.arange(256) >> dropped << dropped).astype(np.uint8))


def _solarize(view: Pixels, magnitude: float, sign: float) -> Pixels:
    values, threshold = np.arange(256), 256 - round(256 * magnitude)
    return _table(view, np.where(values < threshold, values, 255 - values).astype(np.uint8))


def _colour(view: Pixels, magnitude: float, sign: float) -> Pixels:
    return _saturation(view, 1 + sign * 0.9 * magnitude)


def _contrast(view: Pixels, magnitude: float, sign: float) -> Pixels:
    return _table(view, _scaled(1 + sign * 0.9 * magnitude, _mean_grey(view)))


def _brightness(view: Pixels, magnitude: float, sign: float) -> Pixels:
    return _table(view, _scaled(1 + sign * 0.9 * magnitude, 0.0))


def _sharpness(view: Pixels, magnitude: float, sign: float) -> Pixels:
    factor = 1 + sign * 0.9 * magnitude
    return _pixels(cv2.addWeighted(view, factor, cv2.filter2D(view, -1, _SMOOTH), 1 - factor, 0))


RAND_AUGMENT: tuple[Callable[[Pixels, float, float], Pixels], ...] = (
    _identity,
    _auto_contrast,
    _equalize,
    _rotate,
    _shear_x,
    _shear_y,
    _translate_x,
    _translate_y,
    _posterize,
    _solarize,
    _colour,
    _contrast,
    _brightness,
    _sharpness,
)

_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13  # Pillow's ImageFilter.SMOOTH


def _warp(view: Pixels, matrix: npt.NDArray[Any]) -> Pixels:
    height, width = view.shape[:2]
    warped = cv2.warpAffine(
        view, matrix, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=_GREY
    )  # bilinear
    return _pixels(warped)


def _table(view: Pixels, table: Pixels) -> Pixels:
    """Look every value up: one table for all channels [256], or one each [256, 3]."""
    return _pixels(cv2.LUT(view, table.reshape(1, 256, -1)))


def _scaled(factor: float, towards: float) -> Pixels:
    values = np.rint(towards + (np.arange(256) - towards) * factor)
    return _pixels(np.clip(values, 0, 255).astype(np.uint8))


def _pixels(result: Any) -> Pixels:
    """OpenCV's arrays of unknown type are pixels again here."""
    pixels: Pixels = result
    return pixels


def _mean_grey(view: Pixels) -> float:
    return float(np.rint(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY).mean()))


def _saturation(view: Pixels, factor: float) -> Pixels:
    grey = cv2.cvtColor(cv2.cvtColor(view, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _pixels(cv2.addWeighted(view, factor, grey, 1 - factor, 0))
