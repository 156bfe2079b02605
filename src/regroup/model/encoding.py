"""What goes through an image tower, and what a backbone says of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from regroup.errors import RegroupError


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
