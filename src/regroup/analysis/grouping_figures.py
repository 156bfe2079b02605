"""How a model groups: segments by stage, group tokens, entropy maps (Figures 1, 6, 7, 9, 10, 14, 15).

Maps of patches are enlarged bicubically, as section 4.5 does for what it shows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from regroup.analysis.panels import Picture
from regroup.analysis.segments import Ids, WholeImage, encode_squares, enlarge, side_of, square
from regroup.analysis.tiles import Scale, Tile, heat, spotlit, tile_page, tinted
from regroup.drawing.figures import Caption, Drawn
from regroup.segmentation.protocols import IGNORED
from regroup.segmentation.windows import largest_segment

if TYPE_CHECKING:
    from regroup.model import Backbone


@dataclass(frozen=True, eq=False)
class Shown:
    """An image with its ground truth, at its own size."""

    image: Picture
    mask: Ids


def encode_shown(model: Backbone, shown: Sequence[Shown], window: int) -> list[WholeImage]:
    """Encode images as the dissection does: whole, squeezed to a square."""
    side = side_of(model, window)
    return list(encode_squares(model, ((one.mask, square(one.image, side)) for one in shown)))


def segments_figure(
    models: Mapping[str, Backbone], shown: Sequence[Shown], window: int, profile: str, drawn: bool
) -> Drawn:
    """Segments of the first and of the last grouping stage, for each model (Figure 1)."""
    columns: dict[str, list[np.ndarray]] = {}
    for name, model in models.items():
        encoded = encode_shown(model, shown, window)
        if model.grouped:
            columns[f"{name}\nstage 1"] = [_largest(one.soft[0], one) for one in encoded]
        columns[f"{name}\nlast stage"] = [one.segment_map("bicubic") for one in encoded]
    rows = [
        ("", [Tile(one.image), *(Tile(tinted(one.image, maps[i])) for maps in columns.values())])
        for i, one in enumerate(shown)
    ]
    title = "Segments as they emerge, stage by stage"
    text = (
        "Each colour is one group token: a pixel has the colour of the token it is assigned to most. Colours "
        "of the first stage have nothing to do with those of the last."
    )
    figure = tile_page(rows, ["image", *columns], title=title, profile=profile, drawn=drawn, notes=[text])
    data = {
        f"{i:02}/{name.replace(chr(10), ' ')}": m[i] for name, m in columns.items() for i in range(len(shown))
    }
    data |= {f"{i:02}/image": one.image for i, one in enumerate(shown)}
    return Drawn("segments", figure, data, Caption(title, text, (1,), profile))


def _largest(soft: Tensor, image: WholeImage) -> np.ndarray:
    height, width = image.mask.shape
    return largest_segment(enlarge(soft, height, width, resize="bicubic")[None])[0].cpu().numpy()


def attention_figure(
    model: Backbone, shown: Sequence[Shown], window: int, profile: str, drawn: bool, name: str
) -> Drawn:
    """Where each group token of the last stage looks (Figure 9)."""
    scale = Scale("share of a pixel that belongs to the group token (eq. 34)", "viridis", 1.0)
    rows, count = [], 0
    data: dict[str, NDArray[np.generic]] = {}
    for number, (one, encoded) in enumerate(zip(shown, encode_shown(model, shown, window), strict=True)):
        maps = enlarge(encoded.attention[:8], *one.mask.shape, resize="bicubic").cpu().numpy()
        rows.append(("", [Tile(one.image), *(Tile(heat(part, scale)) for part in maps)]))
        data[f"{number:02}/attention"] = encoded.attention.cpu().numpy()
        count = len(maps)
    title = f"Attention of the group tokens, {name}"
    text = (
        "Attention of each group token of the last stage over the image, the product of the stages' soft "
        "assignments. In every pixel the maps sum to one: one that is bright in two maps has no clear group."
    )
    headings = ["image", *(f"group {k}" for k in range(count))]
    figure = tile_page(
        rows, headings, title=title, profile=profile, drawn=drawn, notes=[text], scales=[scale]
    )
    return Drawn("attention", figure, data, Caption(title, text, (9,), profile))


@torch.inference_mode()
def group_entropy(image: WholeImage) -> Tensor:
    """Entropy of each patch over the group tokens of the last stage, in nats: [P * P] (eq. 38)."""
    return _entropy(image.attention, dim=0)


@torch.inference_mode()
def label_entropy(model: Backbone, image: WholeImage, classes: Tensor) -> Tensor:
    """Entropy of each patch over N classes, in nats: [P * P] (eq. 41, 42; classes [N, C])."""
    scale = model.logit_scale.exp().clamp(max=100)
    logits = F.normalize(image.projected.float(), dim=-1) @ classes.T * scale
    return _entropy(image.attention.T @ logits.softmax(dim=-1), dim=1)


def _entropy(distribution: Tensor, dim: int) -> Tensor:
    return -torch.xlogy(distribution, distribution).sum(dim=dim)


def entropy_figure(
    before: tuple[str, Backbone],
    groups_after: tuple[str, Backbone],
    labels_after: tuple[str, Backbone],
    classes: Mapping[str, Tensor],
    shown: Sequence[Shown],
    window: int,
    profile: str,
    drawn: bool,
) -> Drawn:
    """Entropy over groups and over labels, before and after a penalty on it (Figures 10, 14 and 15).

    Args:
        before: name and model without penalties.
        groups_after: the same of a model with the group entropy penalty.
        labels_after: with the label entropy penalty.
        classes: class embeddings by model name.
        shown: images.
        window: side of the square that is encoded.
        profile: the profile's name.
        drawn: whether its data is drawn.
    """
    maps: dict[str, list[np.ndarray]] = {}
    data: dict[str, NDArray[np.generic]] = {}
    groups = 1
    for kind, parts in (("groups", (before, groups_after)), ("labels", (before, labels_after))):
        for name, model in parts:
            encoded = encode_shown(model, shown, window)
            if name == before[0] and encoded:
                groups = len(encoded[0].attention)
            found = [
                group_entropy(one) if kind == "groups" else label_entropy(model, one, classes[name])
                for one in encoded
            ]
            data |= {f"{i:02}/over {kind}, {name}": some.cpu().numpy() for i, some in enumerate(found)}
            maps[f"over {kind}\n{name}"] = [
                enlarge(values[None], *one.mask.shape, resize="bicubic")[0].cpu().numpy()
                for values, one in zip(found, encoded, strict=True)
            ]
    number = len(next(iter(classes.values())))
    scales = {
        "groups": Scale(f"entropy over groups, nats (at most {np.log(groups):.2f})", "magma", 0.0),
        "labels": Scale(f"entropy over labels, nats (at most {np.log(number):.2f})", "magma", 0.0),
    }
    for kind, scale in scales.items():
        top = max(
            float(m.max()) for name, some in maps.items() if name.startswith(f"over {kind}") for m in some
        )
        scales[kind] = Scale(scale.label, scale.map, top)
    rows = [
        (
            "",
            [
                Tile(one.image),
                *(Tile(heat(some[i], scales[name.split()[1]])) for name, some in maps.items()),
            ],
        )
        for i, one in enumerate(shown)
    ]
    means = {
        name.replace("\n", ", "): float(np.mean([m.mean() for m in some])) for name, some in maps.items()
    }
    title = "Entropy of patches over groups and labels, before and after its penalty"
    text = (
        "Dark pixels have one clear group (eq. 38) or label (eq. 42, over the dataset's classes), bright "
        "ones are torn between several. Mean of these images: "
        + "; ".join(f"{name} {value:.2f}" for name, value in means.items())
        + "."
    )
    figure = tile_page(
        rows,
        ["image", *maps],
        title=title,
        profile=profile,
        drawn=drawn,
        notes=[text],
        scales=list(scales.values()),
    )
    return Drawn("entropy", figure, data, Caption(title, text, (10, 14, 15), profile))


@dataclass(frozen=True, eq=False)
class Concept:
    """A segment that covers mostly one class: the image's number, the group, the class, how well it fits."""

    image: int
    group: int
    label: int
    fit: float


def find_concepts(segmented: Iterable[tuple[Ids, Ids]], background: bool) -> list[Concept]:
    """Segments of at least 2% of an image of which half or more is one class, the best fitting first.

    The fit is the segment's overlap with all of the class in the image (intersection over union).

    Args:
        segmented: for each image, the segment of each pixel and the ground truth, [H, W].
        background: whether id 0 is the background, which is no concept.
    """
    found = []
    for number, (groups, mask) in enumerate(segmented):
        scored = mask != IGNORED
        for group in np.unique(groups):
            inside = (groups == group) & scored
            if inside.sum() < 0.02 * mask.size:
                continue
            count = np.bincount(mask[inside], minlength=256)
            label = int(count.argmax())
            if (background and label == 0) or count[label] < 0.5 * inside.sum():
                continue
            union = inside.sum() + (mask == label).sum() - count[label]
            found.append(Concept(number, int(group), label, float(count[label] / union)))
    return sorted(found, key=lambda one: (-one.fit, one.image, one.group))


def concepts_figure(
    segmented: Sequence[tuple[Picture, Ids, Ids]],
    names: Sequence[str],
    *,
    background: bool,
    profile: str,
    drawn: bool,
    model_name: str,
    rows: int = 4,
) -> Drawn:
    """What single group tokens learned: images of a token's commonest class and of others (6 and 7).

    Args:
        segmented: images with the segment of each pixel and the ground truth.
        names: of the classes.
        background: whether id 0 is the background.
        profile: the profile's name.
        drawn: whether its data is drawn.
        model_name: whose segments they are.
        rows: group tokens that are shown, those that have most concepts.
    """
    concepts = find_concepts(((groups, mask) for _, groups, mask in segmented), background)
    common = Counter(one.group for one in concepts)
    order = sorted(common, key=lambda group: (-common[group], group))[:rows]
    groups_drawn = []
    data: dict[str, NDArray[np.generic]] = {}
    for group in order:
        mine = [one for one in concepts if one.group == group]
        first = Counter(one.label for one in mine).most_common(1)[0][0]
        same = [one for one in mine if one.label == first][:3]
        others: dict[int, Concept] = {}
        for one in mine:
            if one.label != first:
                others.setdefault(one.label, one)
        tiles: list[Tile | None] = []
        for one in [*same, *list(others.values())[:3]]:
            if one in list(others.values())[:1]:
                tiles += [None] * (3 - len(same))
            image, groups, _ = segmented[one.image]
            tiles.append(Tile(spotlit(image, groups == group), f"{names[one.label]}, IoU {one.fit:.0%}"))
            data[f"group{group}/{len(tiles) - 1}/image_number"] = np.array(one.image)
            data[f"group{group}/{len(tiles) - 1}/inside"] = np.packbits(groups == group)
            data[f"group{group}/{len(tiles) - 1}/shape"] = np.array(groups.shape)
        groups_drawn.append((f"group {group}", tiles))
    title = f"Concepts of single group tokens, {model_name}"
    text = (
        "Each row is one group token of the last stage, with what it groups kept in colour: on the left "
        "three images of the class it groups most often, on the right its best image of each of three other "
        "classes. Below: the class, and the segment's overlap with it."
    )
    headings = [*[f"commonest, {k}" for k in (1, 2, 3)], *[f"other class {k}" for k in (1, 2, 3)]]
    figure = tile_page(groups_drawn, headings, title=title, profile=profile, drawn=drawn, notes=[text])
    return Drawn("concepts", figure, data, Caption(title, text, (6, 7), profile))
