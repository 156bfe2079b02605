"""What everything else may ask of a backbone: an image tower, a text tower, and a space that they share.

Training, inference and analysis know a model by this class alone. What makes a model what it is (its layers,
its sizes, the names in its files) is its own affair, in `regroup.backbones.<name>`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from regroup.model.encoding import FirstStage, ImageEncoding, Noise, TowerOutput
from regroup.model.text import TextTower, check_tokens, encode_by_length, set_tokens

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)


class BackboneConfig(Protocol):
    """Sizes of a backbone: enough, with the weights, to rebuild it; known without torch.

    Attributes:
        architecture: the backbone's name in `regroup.backbones`.
        parts: names of `Backbone.parts`.
    """

    architecture: ClassVar[str]
    parts: ClassVar[frozenset[str]]

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""

    @property
    def joint_width(self) -> int:
        """Channels of the space that images and texts share."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, `architecture` among them, as written to `config.json`."""


class Backbone(nn.Module, ABC):
    """A model of two towers.

    Attributes:
        config: its sizes.
        image: the image tower, with its sizes as `config`.
        text: the text tower, CLIP's.
        image_projector: from the image tower's channels into the joint space.
        text_projector: from the text tower's.
        logit_scale: log of 1/tau of the contrastive loss.
        multi_label_logit_scale: likewise of the multi-label losses.
        grouped: whether patches are grouped into segments; else each patch is a segment of its own.
    """

    config: Any
    image: Any
    text: TextTower
    image_projector: nn.Module
    text_projector: nn.Module
    logit_scale: nn.Parameter
    multi_label_logit_scale: nn.Parameter
    grouped: ClassVar[bool]

    def __init__(
        self,
        config: BackboneConfig,
        *,
        generator: torch.Generator | None = None,
        draw: bool = True,
        storage: bool = True,
    ) -> None:
        """Make the model, with random weights.

        Args:
            config: its sizes.
            generator: source of the initial weights; None takes torch's default.
            draw: False leaves weights as whatever memory holds, for a caller that fills all of them.
            storage: False takes no memory for weights either: they have shapes alone, until `allocate`.
        """
        super().__init__()
        self.config = config
        # built without storage: layers would else draw weights from the global generator, only to be redrawn
        with torch.device("meta"):
            self.build()
            self.logit_scale = nn.Parameter(torch.empty(()))
            self.multi_label_logit_scale = nn.Parameter(torch.empty(()))
        if storage:
            self.allocate()
            if draw:
                self.draw_weights(generator)

    @abstractmethod
    def build(self) -> None:
        """Make both towers and both projectors, of the sizes in `config`."""

    @abstractmethod
    def draw_weights(self, generator: torch.Generator | None) -> None:
        """Draw all weights but the scales, in a fixed order."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.logit_scale.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, and of the pixels that the model takes."""
        return self.logit_scale.dtype

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels; images are multiples of it."""
        return int(self.image.config.patch_size)

    @property
    def image_size(self) -> int:
        """Side in pixels of the square grid that the position embedding was learned on; others work too."""
        return int(self.image.config.image_size)

    @property
    def width(self) -> int:
        """Channels of a segment or patch token, before projection."""
        return int(self.image.config.width)

    @property
    def context(self) -> int:
        """The most tokens of a text."""
        return self.text.config.context

    def patch_grid(self, pixels: Tensor) -> tuple[int, int]:
        """Rows and columns of patches of [B, 3, H, W]."""
        return pixels.shape[-2] // self.patch_size, pixels.shape[-1] // self.patch_size

    def encode_image(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        *,
        return_attention: bool = False,
        return_segments: bool = True,
        generator: torch.Generator | None = None,
    ) -> ImageEncoding:
        """Encode images of any size that the patch size divides.

        Args:
            pixels: normalised with ImageNet's mean and deviation; who was trained on others converts them.
            return_attention: whether to return assignments and patches (no cost otherwise).
            return_segments: whether to project the segments. In training a projector's batch norm sees them
                as one more batch, so leave it off where no objective reads them.
            generator: source of drop path and Gumbel noise in training; None takes torch's default.

        Raises:
            RegroupError: the patch size does not divide the images.
        """
        noise = self.draw_noise(pixels, generator) if self.training else None
        out = self.run_image_tower(pixels, noise, return_attention=return_attention)
        return self.project_image(out, return_segments=return_segments)

    @abstractmethod
    def draw_noise(self, pixels: Float[Tensor, "b 3 h w"], generator: torch.Generator | None = None) -> Noise:
        """What is random in the training forward of these images; only their shape and device matter."""

    @abstractmethod
    def run_image_tower(
        self,
        pixels: Float[Tensor, "b 3 h w"],
        noise: Noise | None = None,
        *,
        return_attention: bool = False,
        first_stage: FirstStage | None = None,
    ) -> TowerOutput:
        """The first half of `encode_image`, up to the projections.

        Args:
            pixels: as for `encode_image`.
            noise: of `draw_noise` in training, None for inference.
            return_attention: as for `encode_image`.
            first_stage: what `run_first_stage` made of the pixels, where it is already known.
        """

    @abstractmethod
    def project_image(self, out: TowerOutput, *, return_segments: bool = True) -> ImageEncoding:
        """The second half of `encode_image`: into the joint space."""

    def first_stage(self) -> nn.Module | None:
        """The part that runs before everything that the study trains, if there is one.

        Called as (tokens, None, None), it gives tokens and group tokens; inference may keep those of it.
        """
        return None

    def first_stage_is_fixed(self) -> bool:
        """Whether, in a training run, the same pixels give the same `run_first_stage` throughout."""
        return False

    def run_first_stage(self, pixels: Float[Tensor, "b 3 h w"]) -> FirstStage:
        """Everything up to and with the first stage, without noise; only where there is one."""
        raise NotImplementedError

    def encode_text(self, tokens: Int64[Tensor, "n t"]) -> Float[Tensor, "n c"]:
        """Encode texts given as CLIP ids, T at most `context`, not normalised.

        Raises:
            RegroupError: too many columns, or a row without end-of-text.
        """
        projected: Tensor = self.text_projector(self.encode_text_tower(tokens))
        return projected

    def encode_text_tower(self, tokens: Int64[Tensor, "n t"]) -> Float[Tensor, "n width"]:
        """Like `encode_text` without the projector: what a cache of a frozen tower keeps."""
        if torch.compiler.is_compiling():
            compiled: Tensor = self.text(tokens)
            return compiled
        check_tokens(tokens, self.text.config)
        return encode_by_length(self.text, tokens)

    def set_tokens(self, ids: Iterable[int]) -> None:
        """Give the rows of a compact vocabulary to these CLIP ids, in ascending order from row 1.

        Start and end of text are always included. All other ids share row 0.

        Raises:
            RegroupError: the vocabulary is not compact, has too few rows, or an id is not CLIP's.
        """
        set_tokens(self.text, ids)

    @abstractmethod
    def parts(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """The parameters that can be trained together, by the part's name (`BackboneConfig.parts`).

        At least `nothing`, `image_projector`, `projectors`, `image_tower` and `all`.
        """

    @abstractmethod
    def with_image_size(self, image_size: int) -> Self:
        """The same weights with the position embedding resized (bicubic) to another training size in pixels.

        Raises:
            RegroupError: `image_size` is not a multiple of the patch size.
        """

    @abstractmethod
    def facts(self) -> list[tuple[str, str]]:
        """Its sizes in words, (what, how much), for who looks at a checkpoint."""

    def allocate(self) -> None:
        """Take memory for weights that were made without; all but the scales are whatever it holds."""
        # what `to_empty` does, without `empty_like`, which on the meta device would import sympy
        self._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))  # type: ignore[no-untyped-call]  # torch does not type it
        with torch.no_grad():
            self.logit_scale.fill_(INITIAL_LOGIT_SCALE)
            self.multi_label_logit_scale.fill_(INITIAL_LOGIT_SCALE)
