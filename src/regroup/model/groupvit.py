"""GroupViT: an image tower, a text tower, and a space they share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from regroup.errors import RegroupError
from regroup.model.config import GroupViTConfig
from regroup.model.constants import CLIP_VOCABULARY, END_OF_TEXT, START_OF_TEXT
from regroup.model.dino import DinoKeys
from regroup.model.image import FirstStage, ImageTower, Noise, TowerOutput
from regroup.model.initialise import initialise
from regroup.model.projector import Projector
from regroup.model.text import TextTower, check_tokens, cut_tokens, text_lengths

INITIAL_LOGIT_SCALE = math.log(1 / 0.07)


@dataclass(frozen=True)
class ImageFeatures:
    """What the image side knows about a batch of B images.

    Attributes:
        feature: [B, C] projected average of the segments (eq. 21), not normalised.
        segments: [B, G, width] output of the last stage after the final norm, before projection.
        segment_features: [B, G, C] projected segments (eq. 29), not normalised; [B, 0, C] if not asked for.
        soft: per grouping block [B, G_l, M_l], softmax over groups without Gumbel noise (eq. 17); empty
            unless asked for.
        hard: likewise the one-hot assignment that was used (eq. 18).
        patches: [B, L, width] image tokens at the end of stage 1, only with the assignments.
    """

    feature: Tensor
    segments: Tensor
    segment_features: Tensor
    soft: tuple[Tensor, ...] = ()
    hard: tuple[Tensor, ...] = ()
    patches: Tensor | None = None

    @property
    def attention(self) -> Tensor:
        """[B, G_last, L] product of the soft assignments (eq. 34): a distribution over groups for each patch.

        Raises:
            RegroupError: the assignments were not asked for.
        """
        if not self.soft:
            raise RegroupError("attention: not computed; call encode_image with return_attention=True")
        with torch.autocast(self.soft[0].device.type, enabled=False):
            product = self.soft[0]
            for assignment in self.soft[1:]:
                product = assignment @ product
        return product


class GroupViT(nn.Module):
    """GroupViT with random weights."""

    def __init__(
        self,
        config: GroupViTConfig,
        *,
        generator: torch.Generator | None = None,
        draw: bool = True,
        storage: bool = True,
    ) -> None:
        """Make the model.

        Args:
            config: shape of the model.
            generator: source of the initial weights; None takes torch's default.
            draw: False leaves weights as whatever memory holds, for a caller that fills all of them.
            storage: False takes no memory for weights either: they have shapes alone, until `allocate`.
        """
        super().__init__()
        self.config = config
        # built without storage: layers would else draw weights from the global generator, only to be redrawn
        with torch.device("meta"):
            self.image = ImageTower(config.image)
            self.text = TextTower(config.text)
            self.image_projector = Projector(config.image.width, config.projector_hidden, config.joint_width)
            self.text_projector = Projector(config.text.width, config.projector_hidden, config.joint_width)
            self.stage_two = None if config.stage_two is None else DinoKeys(config.stage_two)
            self.logit_scale = nn.Parameter(torch.empty(()))
            self.multi_label_logit_scale = nn.Parameter(torch.empty(()))
        if storage:
            self.allocate()
            if draw:
                initialise(self, generator)

    def allocate(self) -> None:
        """Take memory for the weights; all but the scales are whatever it holds."""
        # what `to_empty` does, without `empty_like`, which on the meta device would import sympy
        self._apply(lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype))  # type: ignore[no-untyped-call]  # torch does not type it
        with torch.no_grad():
            self.logit_scale.fill_(INITIAL_LOGIT_SCALE)
            self.multi_label_logit_scale.fill_(INITIAL_LOGIT_SCALE)

    def encode_image(
        self,
        pixels: Tensor,
        *,
        return_attention: bool = False,
        return_segments: bool = True,
        generator: torch.Generator | None = None,
        noise: Noise | None = None,
        stage_two_tokens: Tensor | None = None,
        first_stage: FirstStage | None = None,
    ) -> ImageFeatures:
        """Encode images of any size that the patch size divides.

        Args:
            pixels: [B, 3, H, W], normalised with ImageNet's mean and deviation.
            return_attention: whether to return assignments and patches (no cost otherwise).
            return_segments: whether to project the segments. In training the projector's batch norm sees them
                as one more batch, so leave it off where no objective reads them.
            generator: source of drop path and Gumbel noise in training; None takes torch's default.
            noise: drawn beforehand by `draw_noise` in place of `generator`; the whole then compiles as one
                graph, which a generator cannot be part of.
            stage_two_tokens: [B, P, width] features grouped by the second grouping block in place of the
                first one's segments (section 5.14.2). A model with `stage_two` computes them itself, one for
                each of its patches; then, and in general where P = L, `ImageFeatures.attention` is over the
                image's patches, and training and inference go on as for any other model.
            first_stage: what `image.run_first_stage` made of the pixels, where it is already known; noise and
                shapes still come from the pixels.

        Raises:
            RegroupError: the patch size does not divide the images.
        """
        if stage_two_tokens is None and self.stage_two is not None:
            stage_two_tokens = self.stage_two(pixels, self.image.patch_grid(pixels))
        if self.training and noise is None:
            noise = self.draw_noise(pixels, generator, stage_two_tokens=stage_two_tokens)
        out = self.image(
            pixels,
            noise,
            return_attention=return_attention,
            stage_two_tokens=stage_two_tokens,
            first_stage=first_stage,
        )
        return self.project_image(out, return_segments=return_segments)

    def project_image(self, out: TowerOutput, *, return_segments: bool = True) -> ImageFeatures:
        """From the image tower's output into the joint space; arguments as for `encode_image`.

        Who calls the tower itself gives it the features of `stage_two`, if any, as `stage_two_tokens`.
        """
        feature = self.image_projector(out.segments.mean(dim=1))
        projected = (
            self.image_projector(out.segments)
            if return_segments
            else feature.new_empty(len(feature), 0, feature.shape[-1])
        )
        return ImageFeatures(feature, out.segments, projected, out.soft, out.hard, out.patches)

    def draw_noise(
        self,
        pixels: Tensor,
        generator: torch.Generator | None = None,
        *,
        stage_two_tokens: Tensor | None = None,
    ) -> Noise:
        """Drop path and Gumbel noise of one training batch; arguments as for `encode_image`."""
        replaced = None if stage_two_tokens is None else stage_two_tokens.shape[1]
        if replaced is None and self.stage_two is not None:
            replaced = math.prod(self.image.patch_grid(pixels))
        noise: Noise = self.image.draw_noise(pixels, generator, replaced=replaced)
        return noise

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Encode texts given as CLIP ids: int64 [N, T], T at most the context, to [N, C], not normalised.

        Raises:
            RegroupError: too many columns, or a row without end-of-text.
        """
        projected: Tensor = self.text_projector(self.encode_text_tower(tokens))
        return projected

    def encode_text_tower(self, tokens: Tensor) -> Tensor:
        """Like `encode_text` without the projector: [N, text width], what a cache of a frozen tower keeps."""
        if torch.compiler.is_compiling():
            compiled: Tensor = self.text(tokens)
            return compiled
        check_tokens(tokens, self.config.text)
        return encode_by_length(self.text, tokens)

    def set_tokens(self, ids: Iterable[int]) -> None:
        """Give the rows of a compact vocabulary to these CLIP ids, in ascending order from row 1.

        Start and end of text are always included. All other ids share row 0.

        Raises:
            RegroupError: the vocabulary is not compact, has too few rows, or an id is not CLIP's.
        """
        if not self.config.text.compact:
            raise RegroupError("text.vocabulary: CLIP's full vocabulary needs no token table")
        wanted = sorted({int(index) for index in ids} | {START_OF_TEXT, END_OF_TEXT})
        if wanted[0] < 0 or wanted[-1] >= CLIP_VOCABULARY:
            raise RegroupError(f"set_tokens: ids must lie in 0 to {END_OF_TEXT}")
        if len(wanted) >= self.config.text.vocabulary:
            raise RegroupError(
                f"text.vocabulary: {self.config.text.vocabulary} rows, but {len(wanted)} tokens and a row "
                f"for unknown ones are needed; set it to at least {len(wanted) + 1}"
            )
        index = self.text.token_index
        index.zero_()
        rows = torch.arange(1, len(wanted) + 1, dtype=index.dtype, device=index.device)
        index[torch.tensor(wanted, device=index.device)] = rows


def encode_by_length(tower: TextTower, tokens: Tensor) -> Tensor:
    """Run the text tower on each distinct text once, short texts apart from long ones.

    Exact: a text's feature depends on nothing but its own tokens up to end-of-text. Labels repeat within a
    batch and captions are longer than labels, so this saves most of the tower's work.
    """
    if len(tokens) == 0:
        return tokens.new_zeros((0, tower.config.width), dtype=tower.positions.dtype)
    distinct, inverse = torch.unique(cut_tokens(tokens), dim=0, return_inverse=True)
    order = text_lengths(distinct).argsort(stable=True)
    # a pass of the tower has a fixed cost, on a GPU that of a few hundred texts
    smallest = 512 if tokens.is_cuda else 16
    size = min(max(smallest, -(-len(distinct) // 4)), 1024)
    parts = [tower(cut_tokens(distinct[rows])) for rows in torch.split(order, size)]
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return torch.cat(parts)[place[inverse]]
