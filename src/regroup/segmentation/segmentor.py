"""A backbone as an mmsegmentation segmentor: inference in plain words, one image at a time.

Every pixel gets a score for every class, so this is slow and large, and it is the reference that the faster
path of `regroup.segmentation.inference` must equal. mmseg's test loop, `init_model`, `inference_model` and
visualiser work with it:

    from regroup.segmentation.segmentor import segmentor_config
    model = init_model(Config(segmentor_config("runs/mini/original", "voc")), device="cpu")
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import regroup.segmentation.datasets  # noqa: F401 - registers the transforms that `segmentor_config` names
from regroup.backbones import load_checkpoint
from regroup.model import Backbone
from regroup.segmentation.images import DEVIATION, MEAN
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import ClassPrompts, Protocol, load_protocol
from regroup.segmentation.settings import InferenceParams
from regroup.segmentation.windows import background_segments, class_scores, encode_windows, enlarge_patches

with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
    # mmseg.models imports optional parts of torch and mmcv that announce their own deprecation
    warnings.simplefilter("ignore")
    from mmseg.models import BaseSegmentor, EncoderDecoder, SegDataPreProcessor
    from mmseg.registry import MODELS

NEVER = -1.0
"""Score of a class that has no prompt: below every real score, so it is never predicted."""


@MODELS.register_module()
class OpenVocabularySegmentor(EncoderDecoder):  # type: ignore[misc]  # not typed
    """Sliding-window segmentation by any backbone, in mmseg's hands."""

    def __init__(
        self,
        checkpoint: Backbone | str | Path,
        protocol: Protocol | str,
        prompts: ClassPrompts | None = None,
        threshold: float | None = None,
        window: int = 448,
        stride: int = 224,
        top_k: int = 5,
        train_cfg: None = None,
        pretrained: None = None,
    ) -> None:
        """Load the model and embed the classes.

        Args:
            checkpoint: folder of a checkpoint, or a model.
            protocol: a protocol, its name or the path of its file.
            prompts: what may be predicted; None: all of the protocol's classes.
            threshold: of background; None: the protocol's.
            window: side of the sliding window, pixels.
            stride: pixels between windows.
            top_k: classes a window may contain.
            train_cfg: None; mmseg's `init_model` passes it.
            pretrained: None, likewise.
        """
        # EncoderDecoder's own constructor builds a backbone and heads from configs; there are none here
        preprocessor = SegDataPreProcessor(mean=MEAN, std=DEVIATION, bgr_to_rgb=True)
        BaseSegmentor.__init__(self, data_preprocessor=preprocessor)
        protocol = load_protocol(protocol) if isinstance(protocol, str) else protocol
        self.model = (
            checkpoint if isinstance(checkpoint, Backbone) else load_checkpoint(Path(checkpoint))
        ).eval()
        self.prompts = prompts or protocol.class_prompts()
        self.threshold = (protocol.threshold if threshold is None else threshold) or 0.0
        self.top_k = top_k
        self.test_cfg = _TestConfig(window, stride)
        self.out_channels = len(protocol.classes)
        self.align_corners = False
        self.dataset_meta = {"classes": protocol.classes, "palette": palette(len(protocol.classes))}
        self.register_buffer("classes", embed_prompts(self.model, self.prompts.texts), persistent=False)

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict[str, Any]]) -> Tensor:
        """Class scores [B, classes, H, W] of windows [B, 3, H, W] (eq. 36 and 37)."""
        features = encode_windows(self.model, inputs, self.classes)
        if self.model.grouped:
            segments, whole = map(self.prompts.best_word, (features.logits, features.image_logits))
            scores = class_scores(segments, whole, self.top_k)
            masks = F.one_hot(features.segment_map.long(), scores.shape[1]).to(scores.dtype)
            per_pixel = torch.einsum("bhwg,bgn->bnhw", masks, scores)
            unnamed = background_segments(scores, self.threshold).to(masks.dtype)
            background = torch.einsum("bhwg,bg->bhw", masks, unnamed)
        else:
            scores = self.prompts.best_word(features.logits).softmax(dim=-1)
            per_pixel = enlarge_patches(scores, inputs.shape[2], inputs.shape[3], self.model.patch_size)
            background = torch.full_like(per_pixel[:, 0], self.threshold)
        logits = per_pixel.new_full((len(inputs), self.out_channels, *per_pixel.shape[2:]), NEVER)
        if self.prompts.background:
            logits[:, 0] = background
        logits[:, list(self.prompts.prompted)] = per_pixel
        return logits

    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Segment features [B, G, C] of images of one window."""
        return self.model.encode_image(inputs).segment_features


class _TestConfig(dict[str, Any]):
    """mmseg's `test_cfg`: read both as attributes and as a mapping."""

    def __init__(self, window: int, stride: int) -> None:
        self.mode = "slide"
        self.crop_size = (window, window)
        self.stride = (stride, stride)
        super().__init__(mode=self.mode, crop_size=self.crop_size, stride=self.stride)


def palette(count: int) -> list[list[int]]:
    """PASCAL VOC's colours, [count, 3] in 0..255: bit planes of the class id; the first is black."""
    colours = []
    for number in range(count):
        colour = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                colour[channel] |= ((number >> (3 * bit + channel)) & 1) << (7 - bit)
        colours.append(colour)
    return colours


def segmentor_config(
    checkpoint: str | Path, protocol: str, params: InferenceParams | None = None
) -> dict[str, Any]:
    """An mmseg config that tests `checkpoint` with `protocol`: give it to `mmengine.Config`."""
    params = params or InferenceParams()
    pipeline = [
        {"type": "ReadImage"},
        {"type": "ScaleShortSide", "short_side": params.short_side, "long_side": params.long_side},
        {"type": "PackSegInputs"},
    ]
    return {
        "default_scope": "mmseg",
        "model": {
            "type": "OpenVocabularySegmentor",
            "checkpoint": str(checkpoint),
            "protocol": protocol,
            "window": params.window,
            "stride": params.stride,
            "top_k": params.top_k,
        },
        "test_pipeline": pipeline,
    }
