"""The fast path against the plain one: mmseg's own sliding window over `OpenVocabularySegmentor`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from regroup.backbones.clip.network import Clip
from regroup.model import GroupViT, GroupViTConfig
from regroup.segmentation.datasets import evaluation_pipeline
from regroup.segmentation.images import scale_image
from regroup.segmentation.inference import Decision, EncodedImage, encode_images, label_maps
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.protocols import ClassPrompts, load_protocol
from regroup.segmentation.segmentor import OpenVocabularySegmentor
from regroup.segmentation.settings import InferenceParams
from regroup.segmentation.windows import WindowFeatures, encode_windows, window_boxes

THRESHOLDS = (0.0, 0.1, 0.3, 0.9)
SETTINGS = (
    InferenceParams(short_side=48, window=48, stride=24),
    InferenceParams(short_side=61, window=48, stride=22, top_k=2),
    InferenceParams(short_side=40, window=64, stride=32, top_k=1),
)


Images = list[np.ndarray]


def scaled(images: Images, params: InferenceParams) -> Iterator[tuple[tuple[int, int], torch.Tensor]]:
    for image in images:
        yield image.shape[:2], torch.from_numpy(scale_image(image, params)).permute(2, 0, 1)


def fast(
    model: GroupViT | Clip, images: Images, labels: ClassPrompts, params: InferenceParams, batch: int = 3
) -> list[list[torch.Tensor]]:
    """For each image, one label map for each threshold."""
    classes = embed_prompts(model, labels.texts)
    decisions = [Decision(threshold, params.top_k) for threshold in THRESHOLDS]
    return [
        list(label_maps(encoded, labels, decisions, size))
        for size, encoded in encode_images(model, classes, scaled(images, params), params, batch=batch)
    ]


def plain(
    model: GroupViT | Clip,
    images: Images,
    protocol: str,
    labels: ClassPrompts,
    params: InferenceParams,
    threshold: float,
) -> list[torch.Tensor]:
    segmentor = OpenVocabularySegmentor(
        model, protocol, labels, threshold, window=params.window, stride=params.stride, top_k=params.top_k
    )
    maps = []
    for image in images:
        size = image.shape[:2]
        results = {"img": image[..., ::-1], "img_shape": size, "ori_shape": size}
        for transform in (evaluation_pipeline(params)[1], evaluation_pipeline(params)[3]):
            results = transform(results)
        batch = {"inputs": [results["inputs"]], "data_samples": [results["data_samples"]]}
        maps.append(segmentor.test_step(batch)[0].pred_sem_seg.data[0])
    return maps


def ids_of_both(model: GroupViT | Clip, images: Images, protocol: str, params: InferenceParams) -> set[int]:
    """The ids that occur in the label maps of both paths, which agree at every pixel and threshold."""
    labels = load_protocol(protocol).class_prompts()
    found = fast(model, images, labels, params)
    for number, threshold in enumerate(THRESHOLDS):
        expected = plain(model, images, protocol, labels, params, threshold)
        assert all(torch.equal(maps[number].long(), one) for maps, one in zip(found, expected, strict=True))
    return {int(i) for maps in found for one in maps for i in one.unique()}


@pytest.mark.parametrize("params", SETTINGS, ids=["usual", "many windows", "smaller than the window"])
@pytest.mark.parametrize("protocol", ["voc", "ade150"])
def test_the_fast_path_gives_the_reference_paths_maps(
    model: GroupViT, images: Images, protocol: str, params: InferenceParams
) -> None:
    seen = ids_of_both(model, images, protocol, params)
    assert len(seen) >= 3, "a test in which hardly anything is predicted proves nothing"


def test_thresholds_change_the_maps_and_zero_leaves_no_background(model: GroupViT, images: Images) -> None:
    found = fast(model, images, load_protocol("voc").class_prompts(), SETTINGS[0])
    shares = [np.mean([(maps[i] == 0).float().mean() for maps in found]) for i in range(len(THRESHOLDS))]
    assert shares[0] == 0
    assert shares == sorted(shares)
    assert shares[-1] > shares[1] > 0


def test_a_restricted_protocol_on_both_roads(model: GroupViT, images: Images) -> None:
    labels = load_protocol("voc").class_prompts(["bird", "sofa", "train"])
    found = fast(model, images, labels, SETTINGS[1])
    for maps, expected in zip(
        found, plain(model, images, "voc", labels, SETTINGS[1], THRESHOLDS[2]), strict=True
    ):
        assert torch.equal(maps[2].long(), expected)
        assert set(expected.unique().tolist()) <= {0, 3, 18, 19}


def test_the_batch_does_not_matter(model: GroupViT, images: Images) -> None:
    labels = load_protocol("voc").class_prompts()
    one, many = (fast(model, images, labels, SETTINGS[1], batch) for batch in (1, 7))
    for a, b in zip(one, many, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def dense(
    image: EncodedImage, scores: torch.Tensor, background: torch.Tensor | None, size: tuple[int, int]
) -> torch.Tensor:
    """Channel argmax of eq. 36 and 37, every class of every pixel written out."""
    channels = scores if background is None else torch.cat([background[..., None].float(), scores], dim=-1)
    total = torch.zeros(channels.shape[-1], image.height, image.width)
    count = torch.zeros(image.height, image.width)
    for box, groups, table in zip(image.boxes, image.features.segment_map, channels, strict=True):
        inside = (slice(box.top, box.bottom), slice(box.left, box.right))
        total[(slice(None), *inside)] += table.T[:, groups.long()]
        count[inside] += 1
    return F.interpolate((total / count)[None], size, mode="bilinear", align_corners=False)[0].argmax(0)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("size", [(9, 14), (40, 57), (121, 90)])
def test_scores_that_underflow_to_zero_and_exact_ties(background: bool, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(3)
    boxes = tuple(window_boxes(12, 19, 8, 5))
    groups = torch.randint(0, 3, (len(boxes), 8, 8), generator=generator).to(torch.uint8)
    # classes 4 and 5 tie everywhere; segment 2 so prefers a class outside the top two that both scores vanish
    affinity = torch.tensor([[1.0, 0, 0, 0, 3, 3], [2, 0, 0, 0, 2, 2], [-200, 400, 0, 0, -200, -200]])
    image = torch.tensor([0.5, 0, 0, 0, 9, 8])
    encoded = EncodedImage(
        12,
        19,
        boxes,
        WindowFeatures(groups, affinity.expand(len(boxes), -1, -1), image.expand(len(boxes), -1)),
    )
    labels = ClassPrompts(tuple("abcdef"), tuple(range(7)) if background else tuple(range(6)), background)
    for threshold in (0.0, 0.1, 0.9):
        chosen = affinity[:, [4, 5]].softmax(-1) * affinity.softmax(-1)[:, [4, 5]]
        scores = torch.zeros(3, 6)
        scores[:, [4, 5]] = chosen
        below = scores.amax(1) < min(threshold, float(scores.max()))
        every = scores.expand(len(boxes), -1, -1)
        expected = dense(encoded, every, below.expand(len(boxes), -1) if background else None, size)
        [found] = label_maps(encoded, labels, [Decision(threshold, 2)], size)
        assert torch.equal(found.long(), expected)
        assert (expected == 0).any()


def test_a_thread_of_an_image(model: GroupViT) -> None:
    params = InferenceParams()
    image = np.random.default_rng(0).integers(0, 256, (3, 20_000, 3), dtype=np.uint8)
    labels = load_protocol("voc").class_prompts()
    classes = embed_prompts(model, labels.texts)
    [(_, encoded)] = encode_images(model, classes, scaled([image], params), params, batch=4)
    [found] = label_maps(encoded, labels, [Decision(0.5, 5)], (3, 20_000))
    assert found.shape == (3, 20_000)
    assert len(encoded.boxes) == 9


def test_real_size_windows_do_not_depend_on_their_batch() -> None:
    model = GroupViT(GroupViTConfig(), generator=torch.Generator().manual_seed(0)).eval()
    pixels = torch.randn(3, 3, 96, 80, generator=torch.Generator().manual_seed(1))
    classes = F.normalize(torch.randn(20, 256, generator=torch.Generator().manual_seed(2)), dim=-1)
    together = encode_windows(model, pixels, classes)
    for i in range(3):
        alone = encode_windows(model, pixels[i : i + 1], classes)
        assert all(torch.equal(one[0], many[i]) for one, many in zip(alone, together, strict=True))
