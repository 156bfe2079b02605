"""Reading and scaling images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from regroup.model.constants import IMAGENET_MEAN, IMAGENET_STD
from regroup.pictures import read_picture
from regroup.segmentation.settings import InferenceParams

MEAN = tuple(round(255 * mean, 3) for mean in IMAGENET_MEAN)
"""ImageNet's mean of red, green, blue in grey levels."""

DEVIATION = tuple(round(255 * deviation, 3) for deviation in IMAGENET_STD)
"""ImageNet's standard deviation, likewise."""


def read_image(path: Path, *, upright: bool = True) -> NDArray[np.uint8]:
    """Read an image as RGB [H, W, 3]; `regroup.pictures` says how, and what `upright` means.

    Raises:
        RegroupError: the file is missing, or is not a whole image.
    """
    return read_picture(path, upright=upright)


def scaled_size(height: int, width: int, params: InferenceParams) -> tuple[int, int]:
    """Size (height, width) at which an image is encoded.

    The short side becomes `short_side`, unless that made the long one longer than `long_side`; a side is at
    least one pixel, however thin the image.
    """
    short, long = min(height, width), max(height, width)
    factor = min(params.long_side / long, params.short_side / short)
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def scale_image(image: NDArray[np.uint8], params: InferenceParams) -> NDArray[np.uint8]:
    """Scale an image [H, W, 3] to its encoding size, bilinearly as mmsegmentation's `Resize` does."""
    height, width = scaled_size(image.shape[0], image.shape[1], params)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def normalise(image: Tensor) -> Tensor:
    """Turn RGB grey levels [..., 3, H, W] (0..255, any type) into the model's float32 input."""
    mean = torch.tensor(MEAN, device=image.device).view(3, 1, 1)
    deviation = torch.tensor(DEVIATION, device=image.device).view(3, 1, 1)
    return (image.float() - mean) / deviation
