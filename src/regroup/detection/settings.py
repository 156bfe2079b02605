"""Settings of detection, and the base and novel classes."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from regroup.segmentation.settings import InferenceParams
from regroup.settings import EachOnce, Pixels, Settings, Share, parse, read_yaml

SPLIT = Path(__file__).parent / "coco_48_17.yaml"
"""The published 48 base and 17 novel classes of COCO."""

_WHOLE = 65_535
"""A window that no image is larger than."""

ClassNames = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], EachOnce]


class ClassSplit(Settings):
    """Classes that all compete, in two groups whose scores are told apart."""

    base: ClassNames
    novel: ClassNames

    @model_validator(mode="after")
    def _no_class_is_both(self) -> ClassSplit:
        if both := [name for name in self.novel if name in self.base]:
            raise ValueError(
                f"novel: {', '.join(map(repr, both))} is in `base` too; a class is one or the other"
            )
        if not self.classes:
            raise ValueError("neither `base` nor `novel` names a class")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """All of them, base first."""
        return (*self.base, *self.novel)

    def only(self, names: set[str]) -> ClassSplit:
        """Those of `names`, as the drawn world's."""
        return ClassSplit(
            base=tuple(name for name in self.base if name in names),
            novel=tuple(name for name in self.novel if name in names),
        )


@cache
def published_split() -> ClassSplit:
    """The 48 and 17 classes of `SPLIT`."""
    return parse(ClassSplit, read_yaml(SPLIT), SPLIT)


class DetectionParams(Settings):
    """What is detected, and how segments become boxes.

    An image is encoded as a whole, in one window, so that its segments are the image's.
    """

    split: Literal["train", "val"] = "val"
    limit: int | None = Field(
        default=None,
        ge=1,
        le=100_000_000,
        description="only the first so many images with instances, by name",
    )
    base: ClassNames | None = Field(default=None, description="classes; null: the published 48")
    novel: ClassNames | None = Field(default=None, description="classes; null: the published 17")
    names: Literal["all", "drawn"] = Field(default="all", description="drawn: those of the mini world")
    proposals: Literal["segments", "class_map"] | None = Field(
        default=None, description="whose boxes; null: segments, or the class map of a model without groups"
    )
    components: bool = Field(default=True, description="a box for each connected part, not one for all parts")
    min_area: Share = Field(default=0.001, description="least share of the image's pixels in a proposal")
    score: Literal["softmax", "cosine"] = "softmax"
    nms: Share | None = Field(
        default=0.5, description="IoU above which a class's weaker box is dropped; null: none is"
    )
    detections: int = Field(
        default=100, ge=1, le=10_000, description="most proposals, and boxes, of an image"
    )
    short_side: Pixels = Field(default=448, description="pixels of the image's short side")
    long_side: Pixels = Field(default=2048, description="most pixels of its long side")
    batch: int = Field(default=8, ge=1, le=65_536, description="images in a pass of the model")
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @model_validator(mode="after")
    def _sizes_and_classes_fit(self) -> DetectionParams:
        _ = self.inference, self.chosen
        return self

    @property
    def inference(self) -> InferenceParams:
        """Size of images, each of them one window."""
        if self.long_side < self.short_side:
            raise ValueError("`long_side` is smaller than `short_side`")
        return InferenceParams(
            short_side=self.short_side, long_side=self.long_side, window=_WHOLE, stride=_WHOLE
        )

    @property
    def chosen(self) -> ClassSplit:
        """Base and novel classes before `names` is looked at."""
        published = published_split()
        base = published.base if self.base is None else self.base
        novel = published.novel if self.novel is None else self.novel
        if both := [name for name in novel if name in base]:
            raise ValueError(
                f"novel: {', '.join(map(repr, both))} is in `base` too; a class is one or the other"
            )
        return ClassSplit(base=base, novel=novel)
