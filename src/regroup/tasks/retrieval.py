"""Image-text retrieval: which caption belongs to an image, and which image to a caption.

Recall at k counts a query as a hit if any of its positives is among the k best candidates. Captions of equal
text are positives of each other's images. Candidates that tie with a query's best positive count as better.
Images that the model was trained on are not scored unawares: see `leak`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from regroup.errors import RegroupError
from regroup.metrics import DatasetScores, Metric
from regroup.settings import EachOnce, Pixels, Settings
from regroup.tasks import TaskResult, Work
from regroup.tasks._captions import LAYOUTS, Captioned, Corpus, check_there
from regroup.tasks._ranks import Pairs, chance, pair, ranks, same_text

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from regroup.model import Backbone

Rank = Annotated[int, Field(ge=1, le=1_000_000)]

MAIN = "mean_recall"
"""The mean of all recalls, both ways."""


def _known_layout(name: str) -> str:
    try:
        LAYOUTS.check(name)
    except RegroupError as error:
        raise ValueError(str(error)) from None
    return name


class Options(Settings):
    """What is retrieved from what, and how."""

    captions: Annotated[str, AfterValidator(_known_layout)] = "coco"
    split: Literal["train", "val", "test", "all"] = "val"
    leak: Literal["refuse", "mark"] = Field(
        default="refuse", description="what becomes of a split of which images were trained on"
    )
    limit: int | None = Field(
        default=None, ge=1, le=100_000_000, description="only the first so many images with captions, by id"
    )
    ks: Annotated[tuple[Rank, ...], EachOnce] = Field(default=(1, 5, 10), min_length=1)
    size: Pixels | None = Field(default=None, description="side of the images; null: the model's own")
    batch: int = Field(default=64, ge=1, le=65_536, description="images in a pass of the model")
    chunk: int = Field(default=512, ge=1, le=1_000_000, description="rows of the similarity matrix at a time")
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _known_split(self) -> Self:
        splits: Iterable[str] = LAYOUTS.load(self.captions).SPLITS
        if self.split not in splits:
            raise ValueError(
                f"split: {self.captions} has no split {self.split!r}; it has {', '.join(splits)}"
            )
        return self


def sources(options: Options) -> Iterable[str]:
    """Images and captions in one."""
    return (LAYOUTS.load(options.captions).SOURCE,)


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Retrieve captions by image and images by caption.

    Raises:
        RegroupError: captions or images are missing or broken, no image has a caption, the model was trained
            on some of the images, there is no such device, or a feature of the model is not finite.
    """
    import torch.nn.functional as F

    from regroup.device import choose_device
    from regroup.features import image_features, text_features

    layout = LAYOUTS.load(options.captions)
    corpus: Corpus = layout.read(work.roots[layout.SOURCE], options.split)
    captioned = tuple(image for image in corpus.images if image.captions)
    details: dict[str, JsonValue] = {
        "images_without_captions": len(corpus.images) - len(captioned),
        "images_as_published": layout.SPLITS[options.split],
    }
    captioned = captioned[: options.limit]
    if not captioned:
        raise RegroupError(f"{corpus.file}: no image has a caption: nothing can be retrieved")
    check_there([image.path for image in captioned], corpus.file)
    corpus, leak = _guarded(replace(corpus, images=captioned), options, work)
    model.to(choose_device(options.device))
    pairs = pair([[text for _, text in image.captions] for image in captioned])
    size = options.size or model.image_size
    images = F.normalize(
        image_features(
            model,
            [image.path for image in captioned],
            size=size,
            batch=options.batch,
            store=work.features,
            progress=work.progress,
        ),
        dim=-1,
    )
    texts = F.normalize(text_features(model, pairs.texts, store=work.features), dim=-1)
    by_image = ranks(images, texts, pairs.of_image, pairs.counts, chunk=options.chunk)
    by_text = ranks(texts, images, pairs.of_text, [1] * len(images), chunk=options.chunk)
    return _result(corpus, pairs, by_image, by_text, options, size, {**details, **leak})


def _guarded(corpus: Corpus, options: Options, work: Work) -> tuple[Corpus, dict[str, JsonValue]]:
    """The corpus, its name marked where images of it were trained on, and what is known about that.

    Raises:
        RegroupError: some were, and options do not say to score them nevertheless.
    """
    known = [image.coco for image in corpus.images if image.coco is not None]
    if work.trained_on is None:
        return corpus, {"trained_on": "unknown"}
    if not known:
        return corpus, {"trained_on": "images of another collection"}
    from regroup.captions.index import INDEX, read_index

    trained = frozenset(read_index(work.trained_on / INDEX)["image_id"].to_pylist())
    seen = sum(id_ in trained for id_ in known)
    details: dict[str, JsonValue] = {"trained_on": len(trained), "trained_on_and_scored": seen}
    if not seen:
        return corpus, details
    share = f"{100 * seen / len(corpus.images):.1f}%"
    if options.leak == "refuse":
        raise RegroupError(
            f"{corpus.file}: the model was trained on {seen} of the {len(corpus.images)} images of"
            f" {corpus.name} ({share}; {work.trained_on}): it would be scored on what it has learned. Take"
            " another split, as COCO's `val`, or say `leak: mark`, and tables will tell"
        )
    return replace(corpus, name=f"{corpus.name}, {share} of it trained on"), details


def _result(
    corpus: Corpus,
    pairs: Pairs,
    by_image: Int[Tensor, " images"],
    by_text: Int[Tensor, " texts"],
    options: Options,
    size: int,
    details: dict[str, JsonValue],
) -> TaskResult:
    """Recall both ways from the rank of each image's best caption and of each text's best image."""
    import torch

    every = by_text.repeat_interleave(torch.tensor(pairs.counts))  # a caption is a query, not a distinct text
    captions = len(every)
    own = [sum(pairs.counts[text] for text in some) for some in pairs.of_image]
    shown = [len(some) for some, count in zip(pairs.of_text, pairs.counts, strict=True) for _ in range(count)]
    metrics = {MAIN: Metric(title="mean recall")}
    values: dict[str, float] = {MAIN: 0.0}
    random: dict[str, float] = {MAIN: 0.0}
    directions = (("image", every, shown, len(by_image)), ("text", by_image, own, captions))
    for wanted, found, positives, candidates in directions:
        for k in options.ks:
            name = f"{wanted}_r{k}"
            metrics[name] = Metric(title=f"{wanted} R@{k}")
            values[name] = 100 * float((found <= k).double().mean())
            random[name] = 100 * math.fsum(chance(n, candidates, k) for n in positives) / len(positives)
        metrics[f"{wanted}_median"] = Metric(title=f"{wanted} median rank", unit="rank")
        values[f"{wanted}_median"] = float(torch.quantile(found.double(), 0.5))
    for some in (values, random):
        recalls = [
            some[name] for name, metric in metrics.items() if metric.unit == "percent" and name != MAIN
        ]
        some[MAIN] = math.fsum(recalls) / len(recalls)
    protocol: dict[str, JsonValue] = {
        "name": corpus.name,
        "split": options.split,
        "captions": captions,
        "texts": len(pairs.texts),
        "size": size,
        "preprocessing": "short side to `size`, bicubic; square from the centre",
        "positives": "the image's captions, and all of equal text",
        "ties": "count as better",
    }
    scores = DatasetScores(
        values=values, images=len(by_image), protocol=protocol, details={"chance": {**random}, **details}
    )
    (source,) = sources(options)
    files = {"ranks.parquet": _items(corpus.images, pairs, by_image, by_text)}
    return TaskResult(MAIN, metrics, {source: scores}, files)


def _items(
    images: Sequence[Captioned],
    pairs: Pairs,
    by_image: Int[Tensor, " images"],
    by_text: Int[Tensor, " texts"],
) -> bytes:
    """The rank of every query, as Parquet: its kind, its image and, of a caption, its own id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = {text: k for k, text in enumerate(pairs.texts)}
    rows: list[tuple[str, int | str, int | None, int]] = [
        ("text", image.id, None, int(rank)) for image, rank in zip(images, by_image, strict=True)
    ]
    rows += [
        ("image", image.id, caption, int(by_text[number[same_text(text)]]))
        for image in images
        for caption, text in image.captions
    ]
    wanted, ids, captions, found = zip(*rows, strict=True)
    columns = {
        "wanted": pa.array(wanted, pa.string()),
        "image_id": pa.array(ids, pa.string() if isinstance(ids[0], str) else pa.int64()),
        "caption_id": pa.array(captions, pa.int64()),
        "rank": pa.array(found, pa.int64()),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content
