"""Settings of fine-tuning and of how the mini checkpoint was pretrained: scale, not science."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from regroup.backbones import ROOM, config_from
from regroup.errors import RegroupError
from regroup.model.config import GroupViTConfig, ImageConfig, StageConfig, TextConfig
from regroup.settings import InOrder, Name, Pixels, Seed, Settings, Share

Area = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(ge=0.01, le=100)]
Areas = Annotated[tuple[Area, Area], InOrder]
Ratios = Annotated[tuple[Ratio, Ratio], InOrder]
Rate = Annotated[float, Field(ge=0, le=10)]
Weight = Annotated[float, Field(ge=0, le=1000)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Batch = Annotated[int, Field(ge=4, le=1_048_576)]
Steps = Annotated[int, Field(ge=1, le=100_000_000)]
Megabytes = Annotated[int, Field(ge=0, le=100_000_000)]


class AugmentationSettings(Settings):
    """What is done to training images; the defaults are the study's.

    `crop_scale`: share of the image that a crop covers; `crop_ratio`: its width by its height. `flip`:
    probability of a mirror image. `rand_augment_ops` operations are drawn from the 14 of RandAugment; each is
    applied with `rand_augment_probability` (one half is the practice of the recipe that the study follows) at
    `rand_augment_magnitude` (0 to 10). `colour_jitter` j: brightness, contrast and saturation by factors from
    1 - j to 1 + j. `erasing`: probability that a box of 2% to 33% of the area becomes noise.
    """

    crop_scale: Areas = (0.08, 1.0)
    crop_ratio: Ratios = (3 / 4, 4 / 3)
    flip: Share = 0.5
    rand_augment_ops: int = Field(default=2, ge=0, le=14)
    rand_augment_probability: Share = 0.5
    rand_augment_magnitude: float = Field(default=9.0, ge=0, le=10)
    colour_jitter: Share = 0.4
    erasing: Share = 0.25
    erasing_scale: Areas = (0.02, 1 / 3)
    erasing_ratio: Ratios = (0.3, 1 / 0.3)


class CheckpointParams(Settings):
    """The checkpoint that every variant starts from.

    `path` is a folder of ours, an original `.pth`, or a Hugging Face folder, with weights of `backbone` (a
    module of `regroup.backbones`). `kind: random` draws weights of a GroupViT of the sizes `model` instead,
    from `seed` (to try the pipeline, never for results); `path` then is the file that DVC watches.
    """

    kind: Literal["file", "random"] = "file"
    path: Path
    backbone: Name = "groupvit"
    model: GroupViTConfig | None = None
    seed: Seed = 0

    @model_validator(mode="after")
    def _random_needs_model(self) -> CheckpointParams:
        if self.kind == "random" and self.model is None:
            raise ValueError(
                "`kind: random` needs `model`, the sizes of the network ({} for the published ones)"
            )
        if self.kind == "random" and self.backbone != "groupvit":
            raise ValueError("`kind: random` is for `backbone: groupvit`, whose sizes `model` has")
        return self

    @field_validator("backbone")
    @classmethod
    def _is_there(cls, name: str) -> str:
        try:
            ROOM.check(name)
        except RegroupError as error:
            raise ValueError(str(error)) from None
        return name


class OptimiserParams(Settings):
    """AdamW and the learning-rate schedule (section 5.3); rates are absolute, not scaled."""

    learning_rate: float = Field(default=1.6e-5, gt=0, le=10)
    warmup_learning_rate: Rate = 4e-8
    final_learning_rate: Rate = 4e-7
    warmup_epochs: float = Field(default=1, ge=0, le=10_000)
    decay_epochs: float = Field(default=12, gt=0, le=10_000)
    cycles: int = Field(default=2, ge=1, le=10_000)
    weight_decay: Rate = 0.05
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0, le=1)
    clip: float = Field(default=5.0, gt=0, le=1_000_000)

    @model_validator(mode="after")
    def _rates_rise_and_fall(self) -> OptimiserParams:
        for key in ("warmup_learning_rate", "final_learning_rate"):
            if getattr(self, key) > self.learning_rate:
                raise ValueError(f"`{key}` {getattr(self, key):g} is above `learning_rate`, the highest")
        return self


class BatchNormSettings(Settings):
    """What the projectors' batch norm does in a run, and which rows it sees.

    In training mode a batch norm normalises by the batch and moves its running statistics, by which inference
    normalises; that its weights are frozen changes nothing. `statistics`: `batch` leaves it at that, as the
    study did. `held`: frozen projectors use and keep the pretrained statistics throughout. `original`: as
    `batch`, and frozen projectors get the pretrained running statistics back at the end. `recomputed`: as
    `batch`, and at the end the running statistics of all projectors are computed anew over the training split
    (`regroup.training.batch_norm`). `segments`: segments pass through the image projector in every step, also
    where no objective reads them. `padding`: empty label places pass through the text projector, as a text of
    zero tokens.
    """

    statistics: Literal["batch", "held", "original", "recomputed"] = "batch"
    segments: bool = False
    padding: bool = False


class FinetuneParams(Settings):
    """How large a run of the study is in this profile.

    `seeds`: every variant that is trained runs at least so many, see `regroup.seeds.all_seeds` (null: those
    that it lists). `batch_divisor` divides the study's global batch; `image_sizes` maps its resolutions (224,
    384) to pixels; `epoch_samples` is the number of captions that count as one epoch (null: all of them);
    `max_steps` cuts every run short (to try the pipeline). `processes` share a batch, one GPU each (null: as
    many as `resources.finetune.gpus`). `chunks`: each process encodes its images in so many parts, one after
    the other, for the memory of one; loss, batch norm and gradients stay those of the whole batch. `views`:
    an image comes in so many augmented views, whose frozen part is computed once and kept, up to
    `keep_views_mb` (null: a new view each time, as the study). `workers` processes decode and augment (0: the
    training process itself); `keep_decoded_mb` of decoded images stay in memory. `save_every` and `log_every`
    are steps; `snapshots`: the trained part is kept so often during a run, for the validation curve.
    """

    seeds: int | None = Field(default=None, ge=1, le=1000)
    epoch_samples: int | None = Field(default=None, ge=2, le=10**12)
    batch_divisor: int = Field(default=1, ge=1, le=1024)
    image_sizes: dict[Literal[224, 384], Pixels] = {224: 224, 384: 384}  # noqa: RUF012 - pydantic copies it
    max_steps: Steps | None = None
    processes: int | None = Field(default=None, ge=1, le=65_536)
    chunks: int = Field(default=1, ge=1, le=65_536)
    precision: Literal["fp32", "bf16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    deterministic: bool = True
    optimiser: OptimiserParams = OptimiserParams()
    augmentation: AugmentationSettings = AugmentationSettings()
    views: int | None = Field(default=None, ge=1, le=1_000_000)
    keep_views_mb: Megabytes = 1024
    workers: int = Field(default=0, ge=0, le=1024)
    keep_decoded_mb: Megabytes = 256
    save_every: Steps = 50
    log_every: Steps = 5
    snapshots: int = Field(default=5, ge=0, le=10_000)


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

    steps: Steps
    until: Steps | None = None
    learning_rate: float = Field(gt=0, le=10)
    text_steps: int = Field(default=0, ge=0, le=100_000_000)


class PretrainParams(Settings):
    """How a mini checkpoint is pretrained; phase n draws from seed + n and goes on from the one before."""

    seed: int = Field(default=5, ge=0, le=2**31)
    threads: int | None = Field(
        default=None, ge=1, le=1024, description="in place of the stage's; another number, other last digits"
    )
    phases: Annotated[tuple[PretrainPhase, ...], Field(min_length=1)] = (
        PretrainPhase(steps=2400, until=2000, learning_rate=4e-4, text_steps=200),
        PretrainPhase(steps=1800, learning_rate=6e-4),
    )
    text_batch: Batch = Field(default=96, description="texts a step there")
    batch: Batch = Field(default=32, description="images of `image_size` of the model a step")
    warmup_steps: int = Field(default=100, ge=0, le=100_000_000)
    weight_decay: Rate = 0.05
    clip: float = Field(default=1.0, gt=0, le=1_000_000, description="largest norm of the gradient")
    area: Areas = Field(default=(0.25, 0.9), description="share of the image in a crop")
    large_every: int = Field(
        default=5, ge=2, le=1_000_000, description="every so many steps images are larger"
    )
    large_size: int = Field(default=128, ge=8, le=65_535, description="pixels of those images")
    large_batch: Batch = 10
    large_area: Areas = (0.4, 1.0)
    labels: int = Field(default=3, ge=1, le=64, description="nouns of a caption in the multi-label loss")
    mask_weight: Weight = Field(default=2.0, description="of the patches' cross-entropy through Attn")
    token_weight: Weight = Field(default=2.0, description="of that of stage 1's own patches")
    stuff_weight: Weight = Field(default=0.3, description="of a stuff pixel there; a thing's is 1")
    background_weight: Weight = Field(default=0.3, description="of a pixel that shows no candidate")
    class_weight: Weight = Field(
        default=0.5, description="of the whole image's cross-entropy over candidates"
    )
    model: GroupViTConfig = MINI_MODEL
    backbone: dict[str, Any] | None = Field(
        default=None,
        description="another backbone than GroupViT: what its config.json says, in place of `model`",
    )

    @field_validator("backbone")
    @classmethod
    def _is_a_backbone(cls, values: dict[str, Any] | None) -> dict[str, Any] | None:
        if values is not None:
            if _has_a_truth(values):  # `heads: yes` is a slip that would be read as 1
                raise ValueError("numbers and words are wanted, not true or false")
            try:
                config_from(values, source="what it says")
            except RegroupError as error:
                raise ValueError(str(error)) from None
        return values


def _has_a_truth(value: object) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return isinstance(value, bool) or any(_has_a_truth(part) for part in parts)
