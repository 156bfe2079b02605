"""Image-text retrieval on COCO's captions: which caption belongs to an image, and which image to a caption.

Recall at k counts a query as a hit if any of its positives is among the k best candidates. Captions of equal
text are positives of each other's images. Candidates that tie with a query's best positive count as better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, JsonValue

from regroup.errors import RegroupError
from regroup.metrics import DatasetScores, Metric
from regroup.settings import EachOnce, Pixels, Settings
from regroup.tasks import TaskResult, Work
from regroup.tasks._ranks import Pairs, chance, pair, ranks, same_text

if TYPE_CHECKING:
    from jaxtyping import Int
    from torch import Tensor

    from regroup.captions.coco import CaptionCorpus
    from regroup.model import Backbone

Rank = Annotated[int, Field(ge=1, le=1_000_000)]

MAIN = "mean_recall"
"""The mean of all recalls, both ways."""


class Options(Settings):
    """What is retrieved from what, and how."""

    split: Literal["train", "val"] = "val"
    limit: int | None = Field(
        default=None, ge=1, le=100_000_000, description="only the first so many images with captions, by id"
    )
    ks: Annotated[tuple[Rank, ...], EachOnce] = Field(default=(1, 5, 10), min_length=1)
    size: Pixels | None = Field(default=None, description="side of the images; null: the model's own")
    batch: int = Field(default=64, ge=1, le=65_536, description="images in a pass of the model")
    chunk: int = Field(default=512, ge=1, le=1_000_000, description="rows of the similarity matrix at a time")
    device: Literal["auto", "cpu", "cuda"] = "auto"


def sources(_: Options) -> Iterable[str]:
    """COCO's images and captions."""
    return ("coco",)


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Retrieve captions by image and images by caption.

    Raises:
        RegroupError: captions or images are missing or broken, no image has a caption, there is no such
            device, or a feature of the model is not finite.
    """
    import torch.nn.functional as F

    from regroup.captions.coco import check_images, read_coco_captions
    from regroup.device import choose_device
    from regroup.features import image_features, text_features

    model.to(choose_device(options.device))
    root = work.roots["coco"]
    file = root / "annotations" / f"captions_{options.split}2017.json"
    if not file.is_file():
        raise RegroupError(f"{file}: no such file; retrieval reads COCO's captions of its split")
    corpus = read_coco_captions(file)
    captioned = tuple(image for image in corpus.images if image.captions)[: options.limit]
    if not captioned:
        raise RegroupError(f"{file}: no image has a caption: nothing can be retrieved")
    corpus, folder = replace(corpus, images=captioned), root / f"{options.split}2017"
    check_images(corpus, folder)
    pairs = pair([[caption.text for caption in image.captions] for image in captioned])
    size = options.size or model.image_size
    paths = [folder / image.file_name for image in captioned]
    images = F.normalize(
        image_features(
            model, paths, size=size, batch=options.batch, store=work.features, progress=work.progress
        ),
        dim=-1,
    )
    texts = F.normalize(text_features(model, pairs.texts, store=work.features), dim=-1)
    by_image = ranks(images, texts, pairs.of_image, pairs.counts, chunk=options.chunk)
    by_text = ranks(texts, images, pairs.of_text, [1] * len(images), chunk=options.chunk)
    return _result(corpus, pairs, by_image, by_text, options, size)


def _result(
    corpus: CaptionCorpus,
    pairs: Pairs,
    by_image: Int[Tensor, " images"],
    by_text: Int[Tensor, " texts"],
    options: Options,
    size: int,
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
        "name": f"coco_captions_{options.split}",
        "split": options.split,
        "captions": captions,
        "texts": len(pairs.texts),
        "size": size,
        "preprocessing": "short side to `size`, bicubic; square from the centre",
        "positives": "the image's captions, and all of equal text",
        "ties": "count as better",
    }
    scores = DatasetScores(
        values=values, images=len(by_image), protocol=protocol, details={"chance": {**random}}
    )
    return TaskResult(
        MAIN, metrics, {"coco": scores}, {"ranks.parquet": _items(corpus, pairs, by_image, by_text)}
    )


def _items(
    corpus: CaptionCorpus, pairs: Pairs, by_image: Int[Tensor, " images"], by_text: Int[Tensor, " texts"]
) -> bytes:
    """The rank of every query, as Parquet: its kind, its image and, of a caption, its own id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = {text: k for k, text in enumerate(pairs.texts)}
    rows: list[tuple[str, int, int | None, int]] = [
        ("text", image.id, None, int(rank)) for image, rank in zip(corpus.images, by_image, strict=True)
    ]
    rows += [
        ("image", image.id, caption.id, int(by_text[number[same_text(caption.text)]]))
        for image in corpus.images
        for caption in image.captions
    ]
    wanted, images, captions, found = zip(*rows, strict=True)
    columns = {
        "wanted": pa.array(wanted, pa.string()),
        "image_id": pa.array(images, pa.int64()),
        "caption_id": pa.array(captions, pa.int64()),
        "rank": pa.array(found, pa.int64()),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content
