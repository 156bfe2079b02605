"""GroupViT, its checkpoints, and the parts of it that are trained."""

from regroup.model.checkpoint import load_checkpoint, save_checkpoint
from regroup.model.config import GroupViTConfig, ImageConfig, StageConfig, TextConfig
from regroup.model.groupvit import GroupViT, ImageFeatures
from regroup.model.restage import restage
from regroup.model.trainable import set_trainable

__all__ = [
    "GroupViT",
    "GroupViTConfig",
    "ImageConfig",
    "ImageFeatures",
    "StageConfig",
    "TextConfig",
    "load_checkpoint",
    "restage",
    "save_checkpoint",
    "set_trainable",
]
