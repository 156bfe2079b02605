"""Settings of fine-tuning: what is scale, not science (the science is in variants.yaml)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from regroup.settings import Settings
from regroup.training.augmentation import AugmentationSettings
from regroup.training.pretraining import PretrainParams as PretrainParams


class OptimiserParams(Settings):
    """AdamW and the learning-rate schedule (section 5.3); rates are absolute, not scaled."""

    learning_rate: float = Field(default=1.6e-5, gt=0)
    warmup_learning_rate: float = Field(default=4e-8, ge=0)
    final_learning_rate: float = Field(default=4e-7, ge=0)
    warmup_epochs: float = Field(default=1, ge=0)
    decay_epochs: float = Field(default=12, gt=0)
    cycles: int = Field(default=2, ge=1)
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    clip: float = Field(default=5.0, gt=0)


class FinetuneParams(Settings):
    """How large a run of the study is in this profile.

    `batch_divisor` divides the study's global batch; `image_sizes` maps its resolutions (224, 384) to pixels;
    `epoch_samples` is the number of captions that count as one epoch (null: all of them); `max_steps` cuts every
    run short (to try the pipeline). `workers` processes decode and augment (0: the training process itself);
    `keep_decoded_mb` of decoded images stay in memory. `save_every` and `log_every` are steps.
    """

    epoch_samples: int | None = Field(default=None, ge=1)
    batch_divisor: int = Field(default=1, ge=1)
    image_sizes: dict[Literal[224, 384], int] = {224: 224, 384: 384}
    max_steps: int | None = Field(default=None, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    frozen_batch_norm: Literal["train", "eval"] = "train"
    optimiser: OptimiserParams = OptimiserParams()
    augmentation: AugmentationSettings = AugmentationSettings()
    workers: int = Field(default=0, ge=0)
    keep_decoded_mb: int = Field(default=256, ge=0)
    save_every: int = Field(default=50, ge=1)
    log_every: int = Field(default=5, ge=1)

    @model_validator(mode="after")
    def _saves_fall_on_rows(self) -> FinetuneParams:
        if self.save_every % self.log_every:
            raise ValueError("`save_every` must be a multiple of `log_every`, so that no row is cut by a resume")
        return self
