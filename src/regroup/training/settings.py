"""Settings of fine-tuning and of how the mini checkpoint was pretrained: scale, not science."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from regroup.model.config import GroupViTConfig, ImageConfig, StageConfig, TextConfig
from regroup.settings import Settings


class AugmentationSettings(Settings):
    """What is done to training images; the defaults are the study's.

    `crop_scale`: share of the image that a crop covers; `crop_ratio`: its width by its height. `flip`:
    probability of a mirror image. `rand_augment_ops` operations are drawn from the 14 of RandAugment; each is
    applied with `rand_augment_probability` (one half is the practice of the recipe that the study follows) at
    `rand_augment_magnitude` (0 to 10). `colour_jitter` j: brightness, contrast and saturation by factors from
    1 - j to 1 + j. `erasing`: probability that a box of 2% to 33% of the area becomes noise.
    """

    crop_scale: tuple[float, float] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = Field(default=0.5, ge=0, le=1)
    rand_augment_ops: int = Field(default=2, ge=0)
    rand_augment_probability: float = Field(default=0.5, ge=0, le=1)
    rand_augment_magnitude: float = Field(default=9.0, ge=0, le=10)
    colour_jitter: float = Field(default=0.4, ge=0, le=1)
    erasing: float = Field(default=0.25, ge=0, le=1)
    erasing_scale: tuple[float, float] = (0.02, 1 / 3)
    erasing_ratio: tuple[float, float] = (0.3, 1 / 0.3)


class CheckpointParams(Settings):
    """The checkpoint that every variant starts from.

    `path` is a folder of ours, an original `.pth`, or a Hugging Face folder. `kind: random` draws weights for
    `model` from `seed` instead (to try the pipeline, never for results); `path` then is the file that DVC
    watches.
    """

    kind: Literal["file", "random"] = "file"
    path: Path
    model: GroupViTConfig | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _random_needs_model(self) -> CheckpointParams:
        if self.kind == "random" and self.model is None:
            raise ValueError(
                "`kind: random` needs `model`, the sizes of the network ({} for the published ones)"
            )
        return self


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
    `epoch_samples` is the number of captions that count as one epoch (null: all of them); `max_steps` cuts
    every run short (to try the pipeline). `processes` share a batch, one GPU each (null: as many as
    `resources.finetune.gpus`). `chunks`: each process encodes its images in so many parts, one after the
    other, for the memory of one; loss, batch norm and gradients stay those of the whole batch. `views`: an
    image comes in so many augmented views, whose frozen part is computed once and kept, up to `keep_views_mb`
    (null: a new view each time, as the study). `workers` processes decode and augment (0: the training
    process itself); `keep_decoded_mb` of decoded images stay in memory. `save_every` and `log_every` are
    steps; `snapshots`: the trained part is kept so often during a run, for the validation curve.
    """

    epoch_samples: int | None = Field(default=None, ge=1)
    batch_divisor: int = Field(default=1, ge=1)
    image_sizes: dict[Literal[224, 384], int] = {224: 224, 384: 384}  # noqa: RUF012 - pydantic copies it
    max_steps: int | None = Field(default=None, ge=1)
    processes: int | None = Field(default=None, ge=1)
    chunks: int = Field(default=1, ge=1)
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    deterministic: bool = True
    frozen_batch_norm: Literal["train", "eval"] = "train"
    optimiser: OptimiserParams = OptimiserParams()
    augmentation: AugmentationSettings = AugmentationSettings()
    views: int | None = Field(default=None, ge=1)
    keep_views_mb: int = Field(default=1024, ge=0)
    workers: int = Field(default=0, ge=0)
    keep_decoded_mb: int = Field(default=256, ge=0)
    save_every: int = Field(default=50, ge=1)
    log_every: int = Field(default=5, ge=1)
    snapshots: int = Field(default=5, ge=0)


MINI_MODEL = GroupViTConfig(
    image=ImageConfig(
        image_size=64,
        patch_size=8,
        width=96,
        heads=4,
        stages=(StageConfig(2, 16), StageConfig(1, 8), StageConfig(1)),
        drop_path=0.0,
    ),
    text=TextConfig(vocabulary=640, context=77, width=64, depth=2, heads=4),
    projector_hidden=256,
    joint_width=96,
)


class PretrainPhase(Settings):
    """One phase of pretraining: linear warm-up, then a cosine to zero, cut short after `until` steps.

    `text_steps` of the text tower alone come first.
    """

    steps: int = Field(ge=1)
    until: int | None = Field(default=None, ge=1)
    learning_rate: float = Field(gt=0)
    text_steps: int = Field(default=0, ge=0)


class PretrainParams(Settings):
    """How the mini checkpoint is pretrained; phase n draws from seed + n and goes on from the one before."""

    seed: int = Field(default=5, ge=0)
    phases: tuple[PretrainPhase, ...] = (
        PretrainPhase(steps=2400, until=2000, learning_rate=4e-4, text_steps=200),
        PretrainPhase(steps=1800, learning_rate=6e-4),
    )
    text_batch: int = Field(default=96, ge=4, description="texts a step there")
    batch: int = Field(default=32, ge=4, description="images of `image_size` of the model a step")
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip: float = Field(default=1.0, gt=0, description="largest norm of the gradient")
    area: tuple[float, float] = Field(default=(0.25, 0.9), description="share of the image in a crop")
    large_every: int = Field(default=5, ge=2, description="every so many steps images are larger")
    large_size: int = Field(default=128, ge=8, description="pixels of those images")
    large_batch: int = Field(default=10, ge=4)
    large_area: tuple[float, float] = (0.4, 1.0)
    labels: int = Field(default=3, ge=1, description="nouns of a caption in the multi-label loss")
    mask_weight: float = Field(default=2.0, ge=0, description="of the patches' cross-entropy through Attn")
    token_weight: float = Field(default=2.0, ge=0, description="of that of stage 1's own patches")
    stuff_weight: float = Field(default=0.3, ge=0, description="of a stuff pixel there; a thing's is 1")
    background_weight: float = Field(default=0.3, ge=0, description="of a pixel that shows no candidate")
    class_weight: float = Field(
        default=0.5, ge=0, description="of the whole image's cross-entropy over candidates"
    )
    model: GroupViTConfig = MINI_MODEL
