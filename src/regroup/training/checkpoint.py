"""The model that every variant starts from."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import model_validator

from regroup.model import GroupViT, GroupViTConfig, load_checkpoint
from regroup.model.checkpoint import with_image_size
from regroup.settings import Settings
from typing import Literal


class CheckpointParams(Settings):
    """The checkpoint that every variant starts from.

    `path` is a folder of ours, an original `.pth`, or a Hugging Face folder. `kind: random` draws weights for
    `model` from `seed` instead (to try the pipeline, never for results); `path` then is the file that DVC watches.
    """

    kind: Literal["file", "random"] = "file"
    path: Path
    model: GroupViTConfig | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _random_needs_model(self) -> CheckpointParams:
        if self.kind == "random" and self.model is None:
            raise ValueError("`kind: random` needs `model`, the sizes of the network ({} for the published ones)")
        return self


def start_model(params: CheckpointParams, *, image_size: int | None = None) -> GroupViT:
    """Load or draw the model, its position embedding resized to `image_size` pixels (section 5.9).

    Raises:
        RegroupError: the checkpoint cannot be read, or does not hold exactly the model's tensors.
    """
    if params.kind == "file":
        return load_checkpoint(params.path, image_size=image_size)
    assert params.model is not None
    model = GroupViT(params.model, generator=torch.Generator().manual_seed(params.seed)).eval()
    return model if image_size is None else with_image_size(model, image_size)
