"""The settings that define a GroupViT: enough, with the weights, to rebuild it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from regroup.model.constants import CLIP_VOCABULARY
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
class StageConfig:
    """One stage of the image tower.

    Attributes:
        depth: number of transformer blocks, at least 1.
        group_tokens: learned tokens that the stage groups its input into; 0 = no grouping block at its end.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    depth: int
    group_tokens: int = 0

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        require(self.depth >= 1, f"depth: {self.depth} is not positive")
        require(self.group_tokens >= 0, f"group_tokens: {self.group_tokens} is negative")
        require_bounded(depth=self.depth, group_tokens=self.group_tokens)


@dataclass(frozen=True)
class ImageConfig:
    """The image tower: a ViT whose stages merge tokens into fewer, larger groups (section 4.2).

    Attributes:
        image_size: side in pixels of the square grid that the position embedding was learned on.
        patch_size: side of a patch in pixels; divides `image_size`.
        width: channels of a token; divisible by `heads`.
        heads: attention heads.
        mlp_ratio: hidden channels of a block's MLP over `width`.
        stages: all but the last end in a grouping block; at least two.
        drop_path: rate of the last transformer block while training; it rises linearly from 0 at the first.
        assign_eps: added to the number of tokens in a group before dividing by it. Keep 1: smaller values
            make training unstable.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    image_size: int = 224
    patch_size: int = 16
    width: int = 384
    heads: int = 6
    mlp_ratio: float = 4.0
    stages: tuple[StageConfig, ...] = (StageConfig(6, 64), StageConfig(3, 8), StageConfig(3))
    drop_path: float = 0.1
    assign_eps: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        require_patches(self.image_size, self.patch_size)
        require_heads(self.width, self.heads)
        require(self.mlp_ratio > 0, f"mlp_ratio: {self.mlp_ratio} is not positive")
        require_bounded(mlp_ratio=self.mlp_ratio, stages=len(self.stages))
        require(len(self.stages) >= 2, "stages: at least two are needed, the last without group tokens")
        tokens = [stage.group_tokens for stage in self.stages]
        require(
            all(tokens[:-1]) and tokens[-1] == 0,
            f"stages: group tokens {tokens}: every stage but the last must have some, the last none",
        )
        require(0 <= self.drop_path < 1, f"drop_path: {self.drop_path} is not in [0, 1)")
        require(self.assign_eps > 0, f"assign_eps: {self.assign_eps} is not positive")
        require_bounded(assign_eps=self.assign_eps)

    @property
    def grid(self) -> int:
        """Patches along one side of the position embedding."""
        return self.image_size // self.patch_size

    @property
    def depth(self) -> int:
        """Transformer blocks in all stages together."""
        return sum(stage.depth for stage in self.stages)


@dataclass(frozen=True)
class TextConfig:
    """The text tower: CLIP's causal transformer at a smaller width (section 4.2.4).

    Attributes:
        vocabulary: rows of the token embedding. Fewer than CLIP's 49408 make a compact vocabulary, whose
            rows are given to CLIP ids by `GroupViT.set_tokens`; row 0 then stands for every other id.
        context: longest text in tokens, start and end included.
        width: channels of a token; divisible by `heads`.
        depth: transformer blocks.
        heads: attention heads.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    vocabulary: int = CLIP_VOCABULARY
    context: int = 77
    width: int = 256
    depth: int = 12
    heads: int = 4

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        require(
            self.vocabulary == CLIP_VOCABULARY or 3 <= self.vocabulary <= 32767,
            f"vocabulary: {self.vocabulary} is not {CLIP_VOCABULARY}, nor 3 to 32767 (compact)",
        )
        require(self.context >= 2, f"context: {self.context} has no room for start and end of text")
        require(self.depth >= 1, f"depth: {self.depth} is not positive")
        require_heads(self.width, self.heads)
        require_bounded(context=self.context, depth=self.depth)

    @property
    def compact(self) -> bool:
        """Whether CLIP ids go through a table to rows of a smaller embedding."""
        return self.vocabulary < CLIP_VOCABULARY

    @property
    def described(self) -> str:
        """Its sizes in words."""
        vocabulary = f"{self.vocabulary} tokens" + (" (compact)" if self.compact else "")
        return f"{vocabulary}, width {self.width}, {self.depth} blocks, {self.heads} heads"


@dataclass(frozen=True)
class DinoConfig:
    """A self-supervised ViT, one block's keys of which are read (section 5.14); by default DINO's ViT-S/16.

    Attributes:
        kind: `published` weights, or a `stand-in` that was trained on other images in their place.
        image_size: side in pixels of the square grid that the position embedding was learned on.
        patch_size: side of a patch in pixels; divides `image_size`.
        width: channels of a token, and so of a feature; divisible by `heads`.
        heads: attention heads.
        hidden: hidden channels of a block's MLP.
        layer: block whose keys are read, counted from 0; as many blocks come before it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}

    kind: Literal["published", "stand-in"] = "published"
    image_size: int = 224
    patch_size: int = 16
    width: int = 384
    heads: int = 6
    hidden: int = 1536
    layer: int = 9

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        require_patches(self.image_size, self.patch_size)
        require_heads(self.width, self.heads)
        require(self.hidden >= 1, f"hidden: {self.hidden} is not positive")
        require(self.layer >= 1, f"layer: {self.layer} is not positive")
        require_bounded(hidden=self.hidden, layer=self.layer)

    @property
    def grid(self) -> int:
        """Patches along one side of the position embedding."""
        return self.image_size // self.patch_size

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to `config.json`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: object, *, source: str = "config") -> DinoConfig:
        """Rebuild from `to_dict`'s form; arguments and errors as for `GroupViTConfig.from_dict`."""
        return rebuild(cls, value, source)


@dataclass(frozen=True)
class GroupViTConfig:
    """A whole GroupViT; the default is the published ViT-S with 55.7 M parameters.

    Attributes:
        image: the image tower.
        text: the text tower.
        projector_hidden: hidden channels of both projectors.
        joint_width: channels C of the space that images and texts share.
        stage_two: the network whose patch features replace the first grouping block's segments as input of
            the second stage (section 5.14.2); None, as everywhere else in the study, for no such thing.
    """

    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid"}
    architecture: ClassVar[str] = "groupvit"
    parts: ClassVar[frozenset[str]] = frozenset(
        {"nothing", "both_gbs", "gb2", "image_projector", "projectors", "image_tower", "all"}
    )

    image: ImageConfig = field(default_factory=ImageConfig)
    text: TextConfig = field(default_factory=TextConfig)
    projector_hidden: int = 4096
    joint_width: int = 256
    stage_two: DinoConfig | None = None

    def __post_init__(self) -> None:
        """Refuse values that contradict each other."""
        require(self.projector_hidden >= 1, f"projector_hidden: {self.projector_hidden} is not positive")
        require(self.joint_width >= 1, f"joint_width: {self.joint_width} is not positive")
        require_bounded(projector_hidden=self.projector_hidden, joint_width=self.joint_width)
        require(
            self.parameters <= MOST_PARAMETERS,
            f"some {self.parameters:,} parameters follow, more than {MOST_PARAMETERS:,}",
        )
        if self.stage_two is not None:
            require(len(self.image.stages) >= 3, "stage_two: there is no second grouping block to feed")
            require(
                self.stage_two.width == self.image.width,
                f"stage_two: features of {self.stage_two.width} channels do not fit tokens of "
                f"{self.image.width}",
            )

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.image.patch_size

    @property
    def parameters(self) -> int:
        """About how many parameters the model has: its matrices alone."""
        image, text = self.image, self.text
        block = image.width**2 * (4 + 2 * image.mlp_ratio)
        # a grouping block has two attentions, an MLP over channels and one over tokens
        tokens = [stage.group_tokens for stage in image.stages]
        grouping = [2 * block + (first + last) ** 2 for first, last in pairwise(tokens)]
        total = block * image.depth + sum(grouping) + 3 * image.patch_size**2 * image.width
        total += image.grid**2 * image.width + text.vocabulary * text.width + text.context * text.width
        total += 12 * text.width**2 * text.depth
        total += self.projector_hidden * (image.width + text.width + 2 * self.joint_width)
        if (dino := self.stage_two) is not None:
            total += dino.layer * dino.width * (4 * dino.width + 2 * dino.hidden)
            total += dino.width * (3 * dino.patch_size**2 + dino.grid**2)
        return round(total)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to `config.json`."""
        value = {"architecture": self.architecture, **asdict(self)}
        value["image"]["stages"] = list(value["image"]["stages"])
        if value["stage_two"] is None:
            del value["stage_two"]
        return value

    @classmethod
    def from_dict(cls, value: object, *, source: str = "config") -> GroupViTConfig:
        """Rebuild from `to_dict`'s form.

        Args:
            value: what was read, of any type.
            source: named in errors, usually the file.

        Raises:
            RegroupError: a key is unknown, missing or ill-typed, or values contradict each other.
        """
        return rebuild(cls, without_architecture(value, cls.architecture, source), source)
