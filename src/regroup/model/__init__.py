"""What a backbone is, GroupViT, its checkpoints, and the parts of it that are trained.

Names are imported when first used: settings refer to `regroup.model.config` and must not load torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regroup.model.checkpoint import save_checkpoint
    from regroup.model.config import GroupViTConfig, ImageConfig, StageConfig, TextConfig
    from regroup.model.encoding import ImageEncoding
    from regroup.model.groupvit import GroupViT
    from regroup.model.interface import Backbone

_HOMES = {
    "Backbone": "interface",
    "GroupViT": "groupvit",
    "GroupViTConfig": "config",
    "ImageConfig": "config",
    "ImageEncoding": "encoding",
    "StageConfig": "config",
    "TextConfig": "config",
    "save_checkpoint": "checkpoint",
}

_MOVED = "load_checkpoint"
"""Was here before there were other backbones than GroupViT; people's scripts still ask for it here."""

__all__ = [
    "Backbone",
    "GroupViT",
    "GroupViTConfig",
    "ImageConfig",
    "ImageEncoding",
    "StageConfig",
    "TextConfig",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    """Import a name of this package from its module."""
    if name == _MOVED:  # by name, since this package lies below the one that now reads every backbone
        return getattr(import_module("regroup.backbones"), name)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
