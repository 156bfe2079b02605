"""The thesis's formulas with plain loops over NumPy float64; nothing here is shared with the library."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def unit(x: Array) -> Array:
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.divide(x, length, out=np.zeros_like(x), where=length > 0)


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def entropy(p: Array) -> float:
    return -sum(float(v) * math.log(v) for v in p if v > 0)


def mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def contrastive(image: Array, caption: Array, tau: float) -> tuple[float, float]:
    """Eq. 23 and 24."""
    image, caption = unit(image), unit(caption)
    size = len(image)
    first = second = 0.0
    for i in range(size):
        own = math.exp(image[i] @ caption[i] / tau)
        first -= math.log(own / sum(math.exp(image[i] @ caption[j] / tau) for j in range(size))) / size
        second -= math.log(own / sum(math.exp(caption[i] @ image[j] / tau) for j in range(size))) / size
    return first, second


def multi_label(
    image: Array,
    labels: Array,
    tau: float,
    used: NDArray[np.bool_],
    *,
    shared: bool,
    compared: NDArray[np.bool_] | None = None,
) -> tuple[float, float]:
    """Eq. 26 and 27 over the places that are used; `shared` puts the logarithm inside the sum over labels.

    `compared` are further places that images are compared with; then who has no target counts as 0.
    """
    image, labels = unit(image), unit(labels)
    size, places = used.shape
    beside = used if compared is None else compared
    first, second = [], []
    for i in range(size):
        total = sum(
            math.exp(image[i] @ labels[j, k] / tau)
            for j in range(size)
            for k in range(places)
            if beside[j, k]
        )
        own = [math.exp(image[i] @ labels[i, k] / tau) for k in range(places) if used[i, k]]
        if own:
            first.append(-mean([math.log(o / total) for o in own]) if shared else -math.log(sum(own) / total))
        for k in range(places):
            if used[i, k]:
                bottom = sum(math.exp(labels[i, k] @ image[j] / tau) for j in range(size))
                second.append(-math.log(math.exp(labels[i, k] @ image[i] / tau) / bottom))
    if compared is not None:
        return sum(first) / size, sum(second) / (size * places)
    return mean(first), mean(second)


def noise_free(
    image: Array,
    labels: Array,
    strings: list[list[str | None]],
    tau: float,
    used: NDArray[np.bool_],
    *,
    compared: NDArray[np.bool_] | None = None,
) -> float:
    """Section 5.10 with loops over label strings; None belongs to its own image alone.

    `compared` as for `multi_label`.
    """
    image, labels = unit(image), unit(labels)
    size, places = used.shape
    beside = used if compared is None else compared

    def carries(i: int, j: int, k: int) -> bool:
        string = strings[j][k]
        return i == j if string is None else string in strings[i]

    first, second = [], []
    for i in range(size):
        positions = [(j, k) for j in range(size) for k in range(places) if beside[j, k]]
        total = sum(math.exp(image[i] @ labels[p] / tau) for p in positions)
        positives = [p for p in positions if used[p] and carries(i, *p)]
        if positives:
            first.append(-mean([math.log(math.exp(image[i] @ labels[p] / tau) / total) for p in positives]))
    for j in range(size):
        for k in range(places):
            if not used[j, k]:
                continue
            scores = [math.exp(labels[j, k] @ image[i] / tau) for i in range(size)]
            owners = [i for i in range(size) if carries(i, j, k)]
            second.append(-mean([math.log(scores[i] / sum(scores)) for i in owners]))
    if compared is not None:
        return (sum(first) / size + sum(second) / (size * places)) / 2
    return (mean(first) + mean(second)) / 2


def group_entropy(attention: Array, *, published: bool) -> float:
    """Eq. 38 and 39."""
    images, groups, patches = attention.shape
    if published:
        p = softmax(attention, 1)
        return mean([entropy(p[b, :, j]) / groups for b in range(images) for j in range(patches)])
    return mean([entropy(attention[b, :, j]) for b in range(images) for j in range(patches)])


def label_entropy(
    attention: Array, segments: Array, labels: Array, used: NDArray[np.bool_], *, published: bool
) -> float:
    """Eq. 41 to 43."""
    values = []
    for b in range(len(attention)):
        if not used[b].any():
            continue
        similarity = unit(segments[b]) @ unit(labels[b][used[b]]).T
        attn = softmax(attention[b], 0) if published else attention[b]
        affinity = attn.T @ softmax(similarity, 1)
        if published:
            affinity = softmax(affinity, 1)
        per_patch = [entropy(row) / (len(row) if published else 1) for row in affinity]
        values.append(mean(per_patch))
    return mean(values)


def segment_entropy(
    segments: Array, labels: Array, used: NDArray[np.bool_], *, published: bool = False
) -> float:
    """Eq. 44 to 46; `published` has 1e-8 more in each logarithm."""

    def entropy(p: Array) -> float:
        offset = 1e-8 if published else 0
        return -sum(float(v) * math.log(v + offset) for v in p if v > 0)

    values = []
    for b in range(len(segments)):
        if not used[b].any():
            continue
        similarity = unit(segments[b]) @ unit(labels[b][used[b]]).T
        rows = [entropy(row) for row in softmax(similarity, 1)]
        columns = [entropy(column) for column in softmax(similarity, 0).T]
        values.append(0.2 * mean(rows) + 0.1 * mean(columns))
    return mean(values)


def published_distillation(attention: Array, dino: Array) -> float:
    """Eq. 54 as it was computed: a softmax more, the target over its other axis, a mean of rows."""
    values = []
    for b in range(len(attention)):
        features = unit(dino[b])
        affinity = features @ features.T
        shared = attention[b].T @ attention[b]
        for i in range(len(features)):
            prediction = np.exp(shared[i]) / np.exp(shared[i]).sum()
            for j in range(len(features)):
                target = math.exp(affinity[i, j]) / sum(math.exp(v) for v in affinity[:, j])
                values.append(-target * math.log(prediction[j]))
    return sum(values) / (len(attention) * attention.shape[2])


def distillation(attention: Array, dino: Array) -> float:
    """Eq. 54, mean over images."""
    values = []
    for b in range(len(attention)):
        features = unit(dino[b])
        target = softmax(features @ features.T, 1)
        prediction = attention[b].T @ attention[b]
        patches = len(features)
        values.append(
            -sum(target[i, j] * math.log(prediction[i, j]) for i in range(patches) for j in range(patches))
        )
    return mean(values)
