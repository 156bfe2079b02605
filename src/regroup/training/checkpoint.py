"""The model that every variant starts from."""

from __future__ import annotations

import torch

from regroup.model import GroupViT, load_checkpoint
from regroup.model.checkpoint import with_image_size
from regroup.training.settings import CheckpointParams


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
