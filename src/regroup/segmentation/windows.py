"""One window of the sliding inference: from pixels to the scores of its segments (section 4.4, eq. 29 to 36).

What the thesis calls the image is, in sliding-window inference, the window: it is what the encoder sees, so
the top-5 classes, the softmaxes and the background threshold are a window's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from regroup.model import Backbone


class Box(NamedTuple):
    """A window in the scaled image: rows `top` to `bottom`, columns `left` to `right`, ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


def window_boxes(height: int, width: int, window: int, stride: int) -> list[Box]:
    """The windows of a scaled image, row by row: mmsegmentation's arithmetic.

    The last window of a row or column is shifted back inside the image. A side shorter than the window gives
    one window of that length.
    """

    def starts(length: int) -> list[int]:
        count = max(length - window + stride - 1, 0) // stride + 1
        return [max(min(i * stride + window, length) - window, 0) for i in range(count)]

    return [
        Box(top, min(top + window, height), left, min(left + window, width))
        for top in starts(height)
        for left in starts(width)
    ]


class WindowFeatures(NamedTuple):
    """What the model says of B windows of H x W pixels.

    Attributes:
        segment_map: [B, H, W]: the segment that each pixel belongs to (eq. 35); without groups, its patch.
        logits: [B, G, N] scaled cosine of segments and classes (eq. 30).
        image_logits: [B, N] the same of the window's own feature (eq. 31).
    """

    segment_map: Tensor
    logits: Tensor
    image_logits: Tensor


class ProductPerWindow(TorchFunctionMode):
    """Makes a linear layer of few rows a window one product a window, so that a batch changes no bit.

    A CPU's BLAS has other kernels, which round otherwise, for matrices of few rows; eight segments are few,
    those of a batch are not. `baddbmm` takes each window's own product: a window then has the very numbers
    that it has alone (tested), on one thread; several threads share out sums by size and round otherwise.
    """

    FEW = 32

    def __init__(self, windows: int) -> None:
        """Set the number of windows in the batch."""
        super().__init__()
        self.windows = windows

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Replace `linear`; leave everything else alone."""
        if func is F.linear and not kwargs:
            x, weight, bias = args
            if x.shape[:-1].numel() <= self.FEW * self.windows:
                rows = x.reshape(self.windows, -1, x.shape[-1])
                each = weight.T.expand(self.windows, -1, -1)
                product = torch.bmm(rows, each) if bias is None else torch.baddbmm(bias, rows, each)
                return product.reshape(*x.shape[:-1], -1)
        return func(*args, **(kwargs or {}))


class Segments(NamedTuple):
    """What the model sees in B windows of H x W pixels, before anything is asked for.

    Attributes:
        segment_map: [B, H, W], as in `WindowFeatures`.
        embeddings: [B, G + 1, C], L2-normalised: of the segments, and last of the window as a whole.
    """

    segment_map: Tensor
    embeddings: Tensor

    def compared(self, model: Backbone, classes: Float[Tensor, "n c"]) -> WindowFeatures:
        """What the model says of classes: cosines, multiplied by the learned logit scale as in training."""
        # one product a window, as in `ProductPerWindow`
        cosines = torch.bmm(self.embeddings, classes.T.expand(len(self.embeddings), -1, -1))
        logits = cosines * model.logit_scale.exp().clamp(max=100)
        return WindowFeatures(self.segment_map, logits[:, :-1], logits[:, -1])


@torch.inference_mode()
def encode_windows(model: Backbone, pixels: Tensor, classes: Tensor) -> WindowFeatures:
    """Encode windows and compare their segments with classes.

    Args:
        model: in eval mode.
        pixels: [B, 3, H, W], normalised.
        classes: [N, C] class embeddings, L2-normalised.
    """
    return encode_segments(model, pixels).compared(model, classes)


@torch.inference_mode()
def encode_segments(model: Backbone, pixels: Float[Tensor, "b 3 h w"]) -> Segments:
    """Encode windows, in eval mode; nothing here depends on the classes that are asked for.

    The attention of eq. 34 is enlarged to pixels bilinearly, and a pixel belongs to the segment that is then
    largest there (eq. 35): without groups that is the patch that it lies in, so no attention is made. A side
    that is no multiple of the patch size is padded on the right or below with the mean colour; the padding
    belongs to segments like any pixel, and is cut off their maps.
    """
    height, width = pixels.shape[-2:]
    patch = model.patch_size
    padded = F.pad(pixels, (0, -width % patch, 0, -height % patch))
    batched = len(padded) > 1 and padded.device.type == "cpu"
    with ProductPerWindow(len(padded)) if batched else nullcontext():
        features = model.encode_image(padded, return_attention=True)
    if model.grouped:
        attention = features.attention.float().reshape(len(padded), -1, *model.patch_grid(padded))
        enlarged = F.interpolate(attention, padded.shape[-2:], mode="bilinear", align_corners=False)
        segment_map = largest_segment(enlarged[..., :height, :width])
    else:
        segment_map = patch_map(height, width, patch).to(padded.device).expand(len(padded), -1, -1)
    segments = F.normalize(features.segment_features.float(), dim=-1)
    average = F.normalize(features.feature.float(), dim=-1)
    return Segments(segment_map, torch.cat([segments, average[:, None]], dim=1))


def patch_map(height: int, width: int, patch: int) -> Int32[Tensor, "h w"]:
    """The number of the patch that each pixel lies in, row by row; patches at the edges may be cut."""
    rows, columns = torch.arange(height) // patch, torch.arange(width) // patch
    return (rows[:, None] * -(-width // patch) + columns).int()


def enlarge_patches(
    scores: Float[Tensor, "b l k"], height: int, width: int, patch: int
) -> Float[Tensor, "b k h w"]:
    """Scores of patches bilinearly at pixels; what patches at the edges have beyond the window is cut off."""
    rows, columns = -(-height // patch), -(-width // patch)
    maps = scores.transpose(1, 2).reshape(len(scores), -1, rows, columns)
    size = (rows * patch, columns * patch)
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)[..., :height, :width]


def largest_segment(attention: Float[Tensor, "b g h w"]) -> Tensor:
    """Which of G maps is largest at each pixel, the first of equals: [B, H, W], uint8 for up to 256 maps.

    What `argmax(dim=1)` gives, plane by plane: a CPU's argmax over an inner axis takes ten times as long.
    """
    best = attention[:, 0].clone()
    kind = torch.uint8 if attention.shape[1] <= 256 else torch.int32
    largest = torch.zeros(best.shape, dtype=kind, device=best.device)
    for number in range(1, attention.shape[1]):
        plane = attention[:, number]
        largest.masked_fill_(plane > best, number)
        torch.maximum(best, plane, out=best)
    return largest


def class_scores(logits: Tensor, image_logits: Tensor, top_k: int) -> Tensor:
    """Class scores of segments, [B, G, N] in 0..1 (eq. 32 and 33).

    The softmax over the `top_k` classes that the window as a whole scores highest, times the softmax over all
    classes. Scores of other classes are exactly zero. (Eq. 33 sets them to zero before its first softmax; the
    published method leaves them out of it, which is what is done here.)
    """
    top = image_logits.topk(min(top_k, image_logits.shape[-1]), dim=-1).indices
    left_out = torch.ones_like(image_logits, dtype=torch.bool).scatter(-1, top, False)
    chosen = logits.masked_fill(left_out[:, None], float("-inf"))
    return chosen.softmax(dim=-1) * logits.softmax(dim=-1)


def background_segments(scores: Tensor, threshold: float) -> Tensor:
    """Which segments are background, [B, G] bool (eq. 37).

    A segment is background if its largest class score is below the threshold, which is lowered to the
    window's largest score: the surest segment of a window is never background.

    Args:
        scores: [B, G, N] of `class_scores`.
        threshold: 0..1.
    """
    best = scores.amax(dim=-1)
    limit = best.amax(dim=-1, keepdim=True).clamp(max=threshold)
    return best < limit
