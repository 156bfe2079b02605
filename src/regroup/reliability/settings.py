"""Settings of robustness and calibration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from regroup.reliability.corruptions import KINDS, LEVELS, Corruption
from regroup.segmentation.settings import DatasetParams, InferenceParams
from regroup.settings import EachOnce, Name, Seed, Share

Level = Annotated[int, Field(ge=min(LEVELS), le=max(LEVELS))]


Percent = Annotated[int, Field(ge=1, le=1000)]


class _OnDatasets(InferenceParams):
    batch: int = Field(default=8, ge=1, le=65_536, description="windows in a pass of the model")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    datasets: dict[Name, DatasetParams] = Field(min_length=1)


class RobustnessParams(_OnDatasets):
    """Inference settings, datasets, and what their images are put through."""

    corruptions: Annotated[tuple[Corruption, ...], EachOnce] = Field(default=KINDS)
    levels: Annotated[tuple[Level, ...], EachOnce] = Field(default=LEVELS, min_length=1)
    sizes: Annotated[tuple[Percent, ...], EachOnce] = Field(
        default=(), description="other sizes, in percent of `short_side`; windows stay as large as they are"
    )
    seed: Seed = Field(default=0, description="of the noise")

    @model_validator(mode="after")
    def _something_is_asked(self) -> RobustnessParams:
        if not self.corruptions and not self.sizes:
            raise ValueError("neither `corruptions` nor `sizes` has an entry: nothing would be compared")
        return self

    def at(self, size: int) -> InferenceParams:
        """The same at so many percent of the size; the limit of the long side follows."""
        short_side = min(max(1, round(self.short_side * size / 100)), 65_535)
        long_side = min(round(self.long_side * short_side / self.short_side), 65_535)
        return InferenceParams(
            short_side=short_side,
            long_side=max(long_side, short_side),
            window=self.window,
            stride=self.stride,
            top_k=self.top_k,
        )


class CalibrationParams(_OnDatasets):
    """Inference settings, datasets, and the thresholds of background to choose from."""

    bins: int = Field(default=15, ge=1, le=1000, description="of confidence, of equal width")
    thresholds: Annotated[tuple[Share, ...], EachOnce] = Field(
        default=(0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99),
        description="of background, to choose from; none: no threshold is chosen",
    )
    images: int = Field(
        default=500, ge=1, le=100_000_000, description="first images of the training split that choose"
    )

    @model_validator(mode="after")
    def _chosen_elsewhere(self) -> CalibrationParams:
        if self.thresholds and (same := [n for n, one in self.datasets.items() if one.split == "train"]):
            raise ValueError(
                f"datasets.{same[0]}.split: thresholds are chosen on `train`, so it cannot be scored; give "
                "`split: val`, or `thresholds: []`"
            )
        return self
