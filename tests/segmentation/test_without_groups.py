"""A backbone without groups: each patch is a segment, and no matrix of patches by patches is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from regroup.backbones.clip.config import ClipConfig, ClipImageConfig
from regroup.backbones.clip.network import Clip
from regroup.model import TextConfig
from regroup.segmentation.images import normalise
from regroup.segmentation.inference import Decision, class_planes, encode_images, label_maps
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import load_protocol
from regroup.segmentation.reuse import reused_stage_one
from regroup.segmentation.segment import segment_images
from regroup.segmentation.settings import InferenceParams
from regroup.segmentation.windows import encode_windows, largest_segment, window_boxes

from .test_inference import SETTINGS, Images, fast, ids_of_both, scaled


@pytest.fixture(scope="module")
def clip() -> Clip:
    """A small CLIP whose random patches and texts differ enough to give every threshold something to do."""
    config = ClipConfig(
        ClipImageConfig(image_size=64, patch_size=8, width=32, heads=2, depth=2),
        TextConfig(vocabulary=49408, context=16, width=32, depth=1, heads=2),
        joint_width=16,
    )
    model = Clip(config, generator=torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():
        model.logit_scale.fill_(2.2)
        model.text.token_embedding.weight.normal_(generator=torch.Generator().manual_seed(1))
    return model


def test_the_segment_map_is_the_identity_attentions_argmax(clip: Clip) -> None:
    """What eq. 35 gives for the identity, by the long way over all pairs of patches."""
    pixels = torch.randn(2, 3, 30, 41, generator=torch.Generator().manual_seed(0))
    found = encode_windows(clip, pixels, torch.randn(3, 16))
    identity = torch.eye(24).reshape(1, 24, 4, 6)
    enlarged = F.interpolate(identity, (32, 48), mode="bilinear", align_corners=False)[..., :30, :41]
    for one in found.segment_map:
        assert torch.equal(one.long(), largest_segment(enlarged)[0].long())


def weights(size: int, count: int, length: int) -> np.ndarray:
    """Bilinear weights [length, count] of `length` pixels over `count` samples, each `size` pixels long."""
    table = np.zeros((length, count))
    for pixel in range(length):
        place = min(max((pixel + 0.5) / size - 0.5, 0), count - 1)
        low = int(place)
        table[pixel, low] += 1 - (place - low)
        table[pixel, min(low + 1, count - 1)] += place - low
    return table


def test_planes_are_the_float64_computation(clip: Clip, images: Images) -> None:
    """Softmax over all classes at the model's scale, bilinear at pixels, averaged over windows, bilinear."""
    params, labels = SETTINGS[1], load_protocol("voc").class_prompts()
    classes = embed_prompts(clip, labels.texts)
    decision = Decision(0.08, params.top_k)
    shares = []
    for (height, width), scaled_image in scaled(images, params):
        [(_, encoded)] = encode_images(clip, classes, [(None, scaled_image)], params, batch=4)
        ids, planes = class_planes(encoded, labels, decision, (height, width))
        tall, wide = scaled_image.shape[1:]
        total, seen = np.zeros((len(labels.texts), tall, wide)), np.zeros((tall, wide))
        for box in window_boxes(tall, wide, params.window, params.stride):
            crop = normalise(scaled_image)[:, box.top : box.bottom, box.left : box.right]
            rows, columns = -(-crop.shape[1] // 8), -(-crop.shape[2] // 8)
            padded = F.pad(crop, (0, columns * 8 - crop.shape[2], 0, rows * 8 - crop.shape[1]))
            with torch.no_grad():
                dense = clip.encode_image(padded[None]).segment_features[0].double().numpy()
            unit = dense / np.linalg.norm(dense, axis=1, keepdims=True)
            logits = np.exp(2.2) * unit @ classes.double().numpy().T
            shifted = np.exp(logits - logits.max(1, keepdims=True))
            scores = (shifted / shifted.sum(1, keepdims=True)).reshape(rows, columns, -1)
            down, across = weights(8, rows, crop.shape[1]), weights(8, columns, crop.shape[2])
            part = (slice(box.top, box.bottom), slice(box.left, box.right))
            total[:, *part] += np.einsum("hr,wc,rcn->nhw", down, across, scores)
            seen[part] += 1
        down, across = weights(height / tall, tall, height), weights(width / wide, wide, width)
        expected = np.einsum("hr,wc,nrc->nhw", down, across, total / seen)
        assert ids == list(labels.ids)
        assert np.abs(planes[1:].numpy() - expected).max() < 1e-5
        assert torch.equal(planes[0], torch.full((height, width), decision.threshold))
        [found] = label_maps(encoded, labels, [decision], (height, width))
        assert torch.equal(found.long(), torch.tensor(ids)[planes.argmax(0)])
        shares.append(float((found == 0).float().mean()))
    assert 0 < np.mean(shares) < 1


@pytest.mark.parametrize("params", SETTINGS, ids=["usual", "many windows", "smaller than the window"])
@pytest.mark.parametrize("protocol", ["voc", "ade150"])
def test_the_fast_maps_are_mmsegs_own(
    clip: Clip, images: Images, protocol: str, params: InferenceParams
) -> None:
    assert len(ids_of_both(clip, images, protocol, params)) >= 3


def test_the_batch_does_not_matter(clip: Clip, images: Images) -> None:
    labels = load_protocol("voc").class_prompts()
    one, many = (fast(clip, images, labels, SETTINGS[1], batch) for batch in (1, 7))
    for a, b in zip(one, many, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_nothing_is_kept_of_a_first_stage_that_is_not_there(clip: Clip, tmp_path: Path) -> None:
    with torch.inference_mode(), reused_stage_one(clip, tmp_path / "tokens"):
        clip.encode_image(torch.zeros(1, 3, 32, 32))
    assert not (tmp_path / "tokens").exists()


def test_any_image_into_classes_of_ones_own(clip: Clip, images: Images, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(images[0]).save(tmp_path / "x.png")
    params = InferenceParams(short_side=48, window=48, stride=24)
    [(_, result)] = segment_images(clip, [tmp_path / "x.png"], ["dog", "sea"], params, threshold=0.5)
    assert result.labels.shape == images[0].shape[:2]
    assert len(np.unique(result.segments)) > 20  # patches
