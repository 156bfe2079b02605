"""The settings that define a CLIP: enough, with the weights, to rebuild it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from regroup.model.config import TextConfig
from regroup.model.sizes import (
    MOST_PARAMETERS,
    rebuild,
    require,
    require_bounded,
    require_heads,
    require_patches,
    without_architecture,
)


@dataclass(frozen=True)
class ClipImageConfig:
    """The image tower: a ViT with a class token.

    Attributes:
        image_size: side in pixels of the square grid that the position embedding was learned on.
        patch_size: side of a patch in pixels; divides `image_size`.
        width: channels of a token; divisible by `heads`.
        heads: attention heads.
        depth: transformer blocks.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    heads: int = 12
    depth: int = 12

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        require_patches(self.image_size, self.patch_size)
        require_heads(self.width, self.heads)
        require(self.depth >= 1, f"depth: {self.depth} is not positive")
        require_bounded(depth=self.depth)

    @property
    def grid(self) -> int:
        """Patches along one side of the position embedding."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ClipConfig:
    """A whole CLIP; the default is the published ViT-B/16 with 149.6 M parameters.

    Attributes:
        image: the image tower.
        text: the text tower.
        joint_width: channels C of the space that images and texts share.
        activation: of all MLPs; OpenAI's weights want `quick_gelu`, CLIP's sigmoid approximation of GELU.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}
    architecture: ClassVar[str] = "clip"
    parts: ClassVar[frozenset[str]] = frozenset(
        {"nothing", "image_projector", "projectors", "image_tower", "all"}
    )

    image: ClipImageConfig = field(default_factory=ClipImageConfig)
    text: TextConfig = field(default_factory=lambda: TextConfig(width=512, heads=8))
    joint_width: int = 512
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        require(self.joint_width >= 1, f"joint_width: {self.joint_width} is not positive")
        require_bounded(joint_width=self.joint_width)
        image, text = self.image, self.text
        total = 12 * (image.width**2 * image.depth + text.width**2 * text.depth)
        total += (image.grid**2 + 3 * image.patch_size**2) * image.width
        total += (text.vocabulary + text.context) * text.width
        total += self.joint_width * (image.width + text.width)
        require(total <= MOST_PARAMETERS, f"some {total:,} parameters follow, more than {MOST_PARAMETERS:,}")

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.image.patch_size

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to `config.json`."""
        return {"architecture": self.architecture, **asdict(self)}

    @classmethod
    def from_dict(cls, value: object, *, source: str = "config") -> ClipConfig:
        """Rebuild from `to_dict`'s form; arguments and errors as for `GroupViTConfig.from_dict`."""
        return rebuild(cls, without_architecture(value, cls.architecture, source), source)
