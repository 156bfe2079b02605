"""What everything else may ask of a backbone: an image tower, a text tower, and a space that they share.

Training, inference and analysis know a model by this class alone. What makes a model what it is (its layers,
its sizes, the names in its files) is its own affair, in `regroup.backbones.<name>`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, Self

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from regroup.errors import RegroupError
from regroup.model.text import TextTower, check_tokens, encode_by_length, set_tokens

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)


class Noise(NamedTuple):
    """Everything random in one training forward, drawn beforehand so that the tower itself is a function.

    Attributes:
        keep: drop-path factors [2 * depth, B, 1, 1], or None when nothing is dropped.
        gumbel: per grouping block [B, G, M].
    """

    keep: Tensor | None
    gumbel: tuple[Tensor, ...]


class FirstStage(NamedTuple):
    """What the first grouping block reads.

    Attributes:
        tokens: [B, L, width] image tokens.
        groups: [B, G_1, width] group tokens.
    """

    tokens: Tensor
    groups: Tensor


class TowerOutput(NamedTuple):
    """Result of the image tower; fields as in `ImageEncoding`, which adds the projections.

    Attributes:
        pooled: [B, width] what is projected to the image feature, where that is not the segments' average.
    """

    segments: Tensor
    soft: tuple[Tensor, ...] = ()
    hard: tuple[Tensor, ...] = ()
    patches: Tensor | None = None
    pooled: Tensor | None = None

    def differentiable(self) -> list[Tensor]:
        """The tensors that losses are computed from."""
        rest = [tensor for tensor in (self.patches, self.pooled) if tensor is not None]
        return [self.segments, *self.soft, *rest]

    @classmethod
    def joined(cls, parts: Sequence[TowerOutput]) -> TowerOutput:
        """The outputs of the parts of a batch as one, without `hard`."""
        soft = tuple(torch.cat(some) for some in zip(*(part.soft for part in parts), strict=True))
        patches = [part.patches for part in parts if part.patches is not None]
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return cls(
            torch.cat([part.segments for part in parts]),
            soft,
            patches=torch.cat(patches) if patches else None,
            pooled=torch.cat(pooled) if pooled else None,
        )


@dataclass(frozen=True)
class ImageEncoding:
    """What a backbone says of a batch of B images.

    Attributes:
        feature: [B, C] of the whole image in the joint space, not normalised.
        segments: [B, G, width] segment tokens before projection; without grouping each patch is a segment.
        segment_features: [B, G, C] projected segments, not normalised; [B, 0, C] if not asked for.
        soft: per grouping block [B, G_l, M_l], softmax over groups without Gumbel noise (eq. 17); empty
            unless asked for, and without grouping.
        hard: likewise the one-hot assignment that was used (eq. 18).
        patches: [B, L, width] patch tokens (of GroupViT: at the end of stage 1), only with the assignments.
        identity: whether each patch is its own segment.
    """

    feature: Tensor
    segments: Tensor
    segment_features: Tensor
    soft: tuple[Tensor, ...] = ()
    hard: tuple[Tensor, ...] = ()
    patches: Tensor | None = None
    identity: bool = False

    @property
    def attention(self) -> Tensor:
        """[B, G, L] distribution over segments for each patch: the product of the soft assignments (eq. 34).

        Where each patch is its own segment, the identity: a view of one matrix, for objectives and figures.
        Inference never multiplies with it.

        Raises:
            RegroupError: the assignments were not asked for.
        """
        if self.identity:
            batch, count = self.segments.shape[:2]
            kind = torch.promote_types(self.segments.dtype, torch.float32)
            return torch.eye(count, dtype=kind, device=self.segments.device).expand(batch, count, count)
        if not self.soft:
            raise RegroupError("attention: not computed; call encode_image with return_attention=True")
        with torch.autocast(self.soft[0].device.type, enabled=False):
            product = self.soft[0]
            for assignment in self.soft[1:]:
                product = assignment @ product
        return product


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
        image: the image tower.
        text: the text tower, CLIP's.
        image_projector: from the image tower's channels into the joint space.
        text_projector: from the text tower's.
        logit_scale: log of 1/tau of the contrastive loss.
        multi_label_logit_scale: likewise of the multi-label losses.
        grouped: whether patches are grouped into segments; else each patch is a segment of its own.
    """

    config: Any
    image: nn.Module
    text: TextTower
    image_projector: nn.Module
    text_projector: nn.Module
    logit_scale: nn.Parameter
    multi_label_logit_scale: nn.Parameter
    grouped: ClassVar[bool]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.logit_scale.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights, and of the pixels that the model takes."""
        return self.logit_scale.dtype

    @property
    @abstractmethod
    def patch_size(self) -> int:
        """Side of a patch in pixels; images are multiples of it."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Side in pixels of the square grid that the position embedding was learned on; others work too."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels of a segment or patch token, before projection."""

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
        """The parameters that can be trained together, by the part's name (one of `regroup.model.parts`).

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
        self._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.logit_scale.fill_(INITIAL_LOGIT_SCALE)
            self.multi_label_logit_scale.fill_(INITIAL_LOGIT_SCALE)
