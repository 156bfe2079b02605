"""Settings of inference and evaluation (`evaluate.segmentation:` and `sweep:` in params.yaml)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from regroup.errors import RegroupError
from regroup.plugins import Shelf
from regroup.settings import EachOnce, Name, Pixels, Settings, Share
from regroup.sources.settings import SourceKey

PROTOCOLS = Shelf(Path(__file__).parent / "protocols", "protocol", Settings)
"""Every protocol that comes with the package, by the name of its file; `protocols.py` says what is in one."""


def is_file(protocol: str) -> bool:
    """Whether what a dataset calls its protocol is a path, not a name."""
    return protocol.endswith((".yaml", ".yml")) or "/" in protocol


def _known_protocol(protocol: str) -> str:
    path = Path(protocol)
    if not is_file(protocol):
        try:
            PROTOCOLS.check(protocol)
        except RegroupError as error:
            raise ValueError(
                f"{error}; a file of your own is named by its path, which ends in .yaml"
            ) from None
    elif path.is_absolute() or ".." in path.parts or "\\" in protocol:
        raise ValueError(
            "give a path from the project's root to a file inside the project, with / between folders: it "
            "has to mean the same file on another machine"
        )
    elif not path.is_file():
        raise ValueError(f"no such file in {Path.cwd()}, the project's root")
    return protocol


ProtocolRef = Annotated[str, AfterValidator(_known_protocol)]
"""A protocol's name, or the path of its file from the project's root."""

Classes = Annotated[int, Field(ge=1, le=10_000)]
Datasets = Annotated[tuple[Name, ...], EachOnce]


class InferenceParams(Settings):
    """How an image is scaled, cut into windows and scored (section 5.3: 448, 448, 224, five classes)."""

    short_side: Pixels = Field(default=448, description="pixels of the image's short side")
    long_side: Pixels = Field(default=2048, description="most pixels of its long side")
    window: Pixels = Field(default=448, description="side of the sliding window")
    stride: Pixels = Field(default=224, description="pixels between windows")
    top_k: Classes = Field(default=5, description="classes a window may contain (eq. 33)")

    @model_validator(mode="after")
    def _windows_cover_the_image(self) -> InferenceParams:
        if self.stride > self.window:
            raise ValueError("`stride` is larger than `window`: pixels between windows would have no score")
        if self.long_side < self.short_side:
            raise ValueError("`long_side` is smaller than `short_side`")
        return self


class DatasetParams(Settings):
    """One dataset to score."""

    source: SourceKey = Field(description="the raw data it is read from")
    protocol: ProtocolRef = Field(description="its name, or the path of a YAML file from the project's root")
    threshold: Share | None = Field(default=None, description="of background; null: the protocol's")
    names: Literal["all", "drawn"] = Field(default="all", description="drawn: those of the mini world")
    split: Literal["train", "val"] = "val"
    limit: int | None = Field(default=None, ge=1, le=100_000_000, description="only the first so many images")


class ValidationParams(Settings):
    """What the points of validation curves are scored on: the first `images` of some of the datasets."""

    datasets: Datasets = ()
    images: int = Field(default=500, ge=1, le=100_000_000)


class EvaluateParams(InferenceParams):
    """Inference settings and the datasets they are used on."""

    batch: int = Field(default=8, ge=1, le=65_536, description="windows in a pass of the model")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    reuse_stage_one: bool = Field(
        default=False, description="keep tokens of the first stage on disk, for variants that share it"
    )
    boundary: Annotated[float, Field(gt=0, le=0.5)] | None = Field(
        default=None,
        description="also Boundary IoU: of pixels within this share of the diagonal of a contour (its paper: "
        "0.02 on COCO); null: no",
    )
    per_image: bool = Field(default=False, description="also a table of each image's scores")
    datasets: dict[Name, DatasetParams] = Field(min_length=1)
    validation: ValidationParams = ValidationParams()

    @model_validator(mode="after")
    def _validation_is_on_known_datasets(self) -> EvaluateParams:
        if unknown := [name for name in self.validation.datasets if name not in self.datasets]:
            known = ", ".join(self.datasets)
            raise ValueError(f"validation.datasets: {', '.join(unknown)} is not under datasets ({known})")
        return self

    @property
    def own_protocols(self) -> tuple[str, ...]:
        """Files of protocols that are not the package's, from the project's root."""
        return tuple(dict.fromkeys(one.protocol for one in self.datasets.values() if is_file(one.protocol)))

    def chosen(self, names: Sequence[str], key: str) -> dict[str, DatasetParams]:
        """Some of the datasets by name; `key` says who asks.

        Raises:
            RegroupError: there is no such dataset; the message names `key` and lists those there are.
        """
        if unknown := [name for name in names if name not in self.datasets]:
            known = ", ".join(self.datasets)
            raise RegroupError(
                f"{key}: evaluate.segmentation.datasets has no {', '.join(unknown)}; it has {known}"
            )
        return {name: self.datasets[name] for name in names}


class SweepGrid(Settings):
    """Inference settings to try, in every combination (Table 12). None: only the value of `InferenceParams`.

    Pairs of a window and a larger stride are left out.
    """

    short_side: Annotated[tuple[Pixels, ...], EachOnce] | None = Field(default=None, min_length=1)
    window: Annotated[tuple[Pixels, ...], EachOnce] | None = Field(default=None, min_length=1)
    stride: Annotated[tuple[Pixels, ...], EachOnce] | None = Field(default=None, min_length=1)
    top_k: Annotated[tuple[Classes, ...], EachOnce] | None = Field(default=None, min_length=1)
    threshold: Annotated[tuple[Share, ...], EachOnce] = Field(default=(0.9, 0.95, 0.98, 0.99), min_length=1)

    def combined(self, inference: InferenceParams) -> list[tuple[int, int]]:
        """Windows and strides that are tried together."""
        windows, strides = self.window or (inference.window,), self.stride or (inference.stride,)
        return [(window, stride) for window in windows for stride in strides if stride <= window]


class SweepParams(SweepGrid):
    """The grid, and what it is tried on."""

    variant: Name = Field(description="of variants.yaml")
    datasets: Datasets = Field(min_length=1, description="of `evaluate.segmentation.datasets`")

    @property
    def grid(self) -> SweepGrid:
        """The grid alone."""
        return SweepGrid.model_validate({key: getattr(self, key) for key in SweepGrid.model_fields})
