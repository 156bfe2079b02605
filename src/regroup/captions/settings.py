"""Settings of the `shards` and `nouns` stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from regroup.settings import Name, Pixels, Settings

LabelSource = Literal["none", "nouns", "phrases+nouns", "published_phrases+nouns"]
"""Which labels of a caption are drawn from."""

Fallback = Literal["none_left", "too_few"]
"""When nouns outside a curated vocabulary are used after all: see `LabelSampler`."""


class ShardsParams(Settings):
    """How images and captions are packed, or where shards are that have been packed before.

    `url`: an address (https, s3, gs, file ...) with shards and their index, which are then read from there,
    each when it is needed; nothing is packed here. They have to be of the captions of `sources.coco`.

    `short_side` (pixels): larger images are resized to it and encoded again as JPEG of `jpeg_quality`; null
    keeps every file's bytes as they came. `images_per_shard` decides how many shards there are, and so how
    many jobs can make them. `threads` never changes the result.
    """

    url: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9+.-]*://.+$")] | None = None
    short_side: Pixels | None = None
    jpeg_quality: int = Field(default=95, ge=1, le=100)
    images_per_shard: int = Field(default=1000, ge=1, le=10_000_000)
    threads: int = Field(default=1, ge=1, le=1024)


class NounReportParams(Settings):
    """The report on what captions name; `rows` of its printed tables."""

    rows: int = Field(default=40, ge=1, le=10_000)


class NounsParams(Settings):
    """How captions become labels.

    `tagger`: `textblob` (weights of the package textblob-aptagger) or `nltk` (NLTK's own, at `tagger_path`:
    the folder or the zip archive). `verbs`: verbs count as nouns. `vocabularies`: name -> the count that a
    noun must exceed to be in it. `processes` never changes the result.
    """

    tagger: Literal["textblob", "nltk"] = "textblob"
    tagger_path: Path | None = None
    verbs: bool = False
    processes: int = Field(default=1, ge=1, le=1024)
    vocabularies: dict[Name, Annotated[int, Field(ge=0, le=10**9)]] = Field(default_factory=dict)
