"""Settings of the `dino` stage."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from regroup.model.config import DinoConfig
from regroup.settings import Pixels, Seed, Settings
from regroup.training.settings import AugmentationSettings


class StandInParams(Settings):
    """A tiny ViT that learns from the profile's training images without labels.

    `width` is the features' (the image tower's, if they are to feed its second stage); `layer` the block
    whose keys are read, counted from 0. `batch` crops of `image_size` pixels, which cover at least
    `crop_area` of their image, are seen a step; `prototypes` is the width of the self-distillation's softmax;
    `momentum` of the teacher; `jitter` of brightness and colour between the two views of a crop.
    """

    patch_size: int = Field(default=8, ge=1, le=256)
    image_size: Pixels = 48
    width: int = Field(default=96, ge=1, le=8192)
    heads: int = Field(default=4, ge=1, le=256)
    layer: int = Field(default=1, ge=1, le=100)
    steps: int = Field(default=200, ge=0, le=10_000_000)
    batch: int = Field(default=16, ge=2, le=65_536)
    learning_rate: float = Field(default=2e-3, gt=0, le=10)
    weight_decay: float = Field(default=0.04, ge=0, le=10)
    momentum: float = Field(default=0.97, ge=0, lt=1)
    prototypes: int = Field(default=256, ge=2, le=1_000_000)
    jitter: float = Field(default=0.2, ge=0, lt=1)
    crop_area: float = Field(default=0.25, gt=0, le=1)
    seed: Seed = 11

    @property
    def view(self) -> AugmentationSettings:
        """How a crop is taken: nothing is done to its colours, which the two views of it differ in."""
        return AugmentationSettings(
            crop_scale=(self.crop_area, 1.0), rand_augment_ops=0, colour_jitter=0, erasing=0
        )

    @property
    def network(self) -> DinoConfig:
        """The ViT that these settings make."""
        return DinoConfig(
            kind="stand-in",
            image_size=self.image_size,
            patch_size=self.patch_size,
            width=self.width,
            heads=self.heads,
            hidden=4 * self.width,
            layer=self.layer,
        )

    @model_validator(mode="after")
    def _sizes_fit(self) -> StandInParams:
        if self.width % self.heads:
            raise ValueError(f"`width` {self.width} is not a multiple of the {self.heads} `heads`")
        if self.image_size % self.patch_size:
            raise ValueError(f"`image_size` {self.image_size} is not a multiple of `patch_size`")
        return self


class DinoParams(Settings):
    """The self-supervised features of section 5.14.

    `kind: file` reads DINO's published weights at `path` (`dino_deitsmall16_pretrain.pth`, or the one with
    patches of 8); `layer` is the block whose keys are features, counted from 0. `kind: stand-in` trains
    `stand_in` on the profile's shards instead, where those weights are out of reach or mean nothing, as for
    drawn images; `path` then is the file that DVC watches.
    """

    kind: Literal["file", "stand-in"] = "file"
    path: Path
    layer: int = Field(default=9, ge=1, le=100)
    stand_in: StandInParams = StandInParams()

    @property
    def network(self) -> DinoConfig:
        """The ViT that the features will come from; of published weights, the smaller one's shape."""
        return DinoConfig(layer=self.layer) if self.kind == "file" else self.stand_in.network
