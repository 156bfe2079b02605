"""How long a run is and how large its batches are, in this profile."""

from __future__ import annotations

from dataclasses import dataclass

from regroup.errors import RegroupError
from regroup.training.settings import FinetuneParams
from regroup.variants import Variant


@dataclass(frozen=True)
class Plan:
    """The scale of one run.

    Attributes:
        batch: images of the global batch.
        image_size: pixels of the square training image.
        epoch_steps: optimiser steps of one epoch.
        steps: optimiser steps of the run.
    """

    batch: int
    image_size: int
    epoch_steps: int
    steps: int

    def __str__(self) -> str:
        """One line for people."""
        size = f"{self.batch} images at {self.image_size} px"
        return f"{self.steps:,} steps of {size}, {self.epoch_steps:,} an epoch"

    @classmethod
    def of(cls, variant: Variant, settings: FinetuneParams, captions: int) -> Plan:
        """The plan of `variant` in this profile, for a corpus of `captions` captions.

        Raises:
            RegroupError: the batch is larger than an epoch, or the resolution has no size in this profile.
        """
        batch = max(2, variant.batch // settings.batch_divisor)
        samples = min(settings.epoch_samples or captions, captions)
        if batch > samples:
            raise RegroupError(
                f"finetune: a batch of {batch} is more than the {samples} captions of an epoch; "
                "raise finetune.batch_divisor or finetune.epoch_samples"
            )
        if variant.resolution not in settings.image_sizes:
            raise RegroupError(f"finetune.image_sizes: no size for the resolution {variant.resolution}")
        epoch_steps = samples // batch
        steps = variant.epochs * epoch_steps
        return cls(
            batch,
            settings.image_sizes[variant.resolution],
            epoch_steps,
            min(steps, settings.max_steps or steps),
        )

    def views(self, images: float, settings: FinetuneParams) -> float:
        """How many different augmentations of an image the run sees, on average over `images` images."""
        samples = self.steps * self.batch / images
        return samples if settings.views is None else min(samples, settings.views)
