"""GroupViT, its checkpoints, and the parts of it that are trained."""

from regroup.model.checkpoint import load_checkpoint, save_checkpoint
from regroup.model.config import GroupViTConfig, ImageConfig, StageConfig, TextConfig
from regroup.model.groupvit import GroupViT, ImageFeatures

__all__ = [
    "GroupViT",
    "GroupViTConfig",
    "ImageConfig",
    "ImageFeatures",
    "StageConfig",
    "TextConfig",
    "load_checkpoint",
    "save_checkpoint",
]
