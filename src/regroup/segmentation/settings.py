"""Settings of inference and evaluation (`evaluate:` and `sweep:` in params.yaml)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from regroup.errors import RegroupError
from regroup.settings import Settings

ProtocolName = Literal[
    "voc", "context60", "context59", "coco_object_stuffthingmaps", "coco_object_instances", "ade150"
]


class InferenceParams(Settings):
    """How an image is scaled, cut into windows and scored (section 5.3: 448, 448, 224, five classes)."""

    short_side: int = Field(default=448, ge=1, description="pixels of the image's short side")
    long_side: int = Field(default=2048, ge=1, description="most pixels of its long side")
    window: int = Field(default=448, ge=1, description="side of the sliding window")
    stride: int = Field(default=224, ge=1, description="pixels between windows")
    top_k: int = Field(default=5, ge=1, description="classes a window may contain (eq. 33)")

    @model_validator(mode="after")
    def _windows_cover_the_image(self) -> InferenceParams:
        if self.stride > self.window:
            raise ValueError("`stride` is larger than `window`: pixels between windows would have no score")
        if self.long_side < self.short_side:
            raise ValueError("`long_side` is smaller than `short_side`")
        return self


class DatasetParams(Settings):
    """One dataset to score."""

    source: Literal["coco", "voc12", "context", "ade"] = Field(description="the raw data it is read from")
    protocol: ProtocolName
    threshold: float | None = Field(
        default=None, ge=0, le=1, description="of background; null: the protocol's"
    )
    names: Literal["all", "drawn"] = Field(default="all", description="drawn: those of the mini world")
    split: Literal["train", "val"] = "val"
    limit: int | None = Field(default=None, ge=1, description="only the first so many images")


class ValidationParams(Settings):
    """What the points of validation curves are scored on: the first `images` of some of the datasets."""

    datasets: tuple[str, ...] = ()
    images: int = Field(default=500, ge=1)


class EvaluateParams(InferenceParams):
    """Inference settings and the datasets they are used on."""

    batch: int = Field(default=8, ge=1, description="windows in a pass of the model")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    reuse_stage_one: bool = Field(
        default=False, description="keep tokens of the first stage on disk, for variants that share it"
    )
    datasets: dict[str, DatasetParams] = Field(min_length=1)
    validation: ValidationParams = ValidationParams()

    @model_validator(mode="after")
    def _validation_is_on_known_datasets(self) -> EvaluateParams:
        if unknown := [name for name in self.validation.datasets if name not in self.datasets]:
            known = ", ".join(self.datasets)
            raise ValueError(f"validation.datasets: {', '.join(unknown)} is not under datasets ({known})")
        return self

    def validating(self) -> EvaluateParams:
        """The same settings on the images of validation curves alone."""
        chosen = {
            name: self.datasets[name].model_copy(update={"limit": self.validation.images})
            for name in self.validation.datasets
        }
        return self.model_copy(update={"datasets": chosen})

    def chosen(self, names: Sequence[str], key: str) -> dict[str, DatasetParams]:
        """Some of the datasets by name; `key` says who asks.

        Raises:
            RegroupError: there is no such dataset; the message names `key` and lists those there are.
        """
        if unknown := [name for name in names if name not in self.datasets]:
            known = ", ".join(self.datasets)
            raise RegroupError(f"{key}: evaluate.datasets has no {', '.join(unknown)}; it has {known}")
        return {name: self.datasets[name] for name in names}


class SweepGrid(Settings):
    """Inference settings to try, in every combination (Table 12). None: only the value of `InferenceParams`.

    Pairs of a window and a larger stride are left out.
    """

    short_side: tuple[int, ...] | None = Field(default=None, min_length=1)
    window: tuple[int, ...] | None = Field(default=None, min_length=1)
    stride: tuple[int, ...] | None = Field(default=None, min_length=1)
    top_k: tuple[int, ...] | None = Field(default=None, min_length=1)
    threshold: tuple[float, ...] = Field(default=(0.9, 0.95, 0.98, 0.99), min_length=1)


class SweepParams(SweepGrid):
    """The grid, and what it is tried on."""

    variant: str = Field(description="of variants.yaml")
    datasets: tuple[str, ...] = Field(description="of `evaluate.datasets`")

    @property
    def grid(self) -> SweepGrid:
        """The grid alone."""
        return SweepGrid.model_validate({key: getattr(self, key) for key in SweepGrid.model_fields})
