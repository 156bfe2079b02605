"""GroupViT: an image tower, a text tower, and a space they share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from regroup.errors import RegroupError
from regroup.model.config import GroupViTConfig
from regroup.model.dino import DinoKeys
from regroup.model.encoding import FirstStage, ImageEncoding, Noise, TowerOutput
from regroup.model.image import GroupingStage, ImageTower
from regroup.model.initialise import initialise
from regroup.model.interface import Backbone
from regroup.model.layers import resize_positions
from regroup.model.projector import Projector
from regroup.model.text import TextTower


class GroupViT(Backbone):
    """GroupViT with random weights."""

    grouped = True
    config: GroupViTConfig
    image: ImageTower
    image_projector: Projector
    text_projector: Projector
    stage_two: DinoKeys | None

    def build(self) -> None:
        """Make both towers and projectors, and what feeds the second stage, if anything does."""
        config = self.config
        self.image = ImageTower(config.image)
        self.text = TextTower(config.text)
        self.image_projector = Projector(config.image.width, config.projector_hidden, config.joint_width)
        self.text_projector = Projector(config.text.width, config.projector_hidden, config.joint_width)
        self.stage_two = None if config.stage_two is None else DinoKeys(config.stage_two)

    def draw_weights(self, generator: torch.Generator | None) -> None:
        """Draw all weights but the scales."""
        initialise(self, generator)

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
    ) -> ImageEncoding:
        """Encode images of any size that the patch size divides; see `Backbone.encode_image`.

        Args:
            pixels: [B, 3, H, W], normalised with ImageNet's mean and deviation.
            return_attention: whether to return assignments and patches (no cost otherwise).
            return_segments: whether to project the segments.
            generator: source of drop path and Gumbel noise in training; None takes torch's default.
            noise: drawn beforehand by `draw_noise` in place of `generator`; the whole then compiles as one
                graph, which a generator cannot be part of.
            stage_two_tokens: [B, P, width] features grouped by the second grouping block in place of the
                first one's segments (section 5.14.2). A model with `stage_two` computes them itself, one for
                each of its patches; then, and in general where P = L, `ImageEncoding.attention` is over the
                image's patches, and training and inference go on as for any other model.
            first_stage: what `run_first_stage` made of the pixels, where it is already known; noise and
                shapes still come from the pixels.

        Raises:
            RegroupError: the patch size does not divide the images.
        """
        if stage_two_tokens is None:
            stage_two_tokens = self._stage_two_tokens(pixels)
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
            replaced = math.prod(self.patch_grid(pixels))
        noise: Noise = self.image.draw_noise(pixels, generator, replaced=replaced)
        return noise

    def run_image_tower(
        self,
        pixels: Tensor,
        noise: Noise | None = None,
        *,
        return_attention: bool = False,
        first_stage: FirstStage | None = None,
    ) -> TowerOutput:
        """The first half of `encode_image`, features of `stage_two` included."""
        output: TowerOutput = self.image(
            pixels,
            noise,
            return_attention=return_attention,
            stage_two_tokens=self._stage_two_tokens(pixels),
            first_stage=first_stage,
        )
        return output

    def project_image(self, out: TowerOutput, *, return_segments: bool = True) -> ImageEncoding:
        """From the image tower's output into the joint space; arguments as for `encode_image`."""
        feature = self.image_projector(out.segments.mean(dim=1))
        projected = (
            self.image_projector(out.segments)
            if return_segments
            else feature.new_empty(len(feature), 0, feature.shape[-1])
        )
        return ImageEncoding(feature, out.segments, projected, out.soft, out.hard, out.patches)

    def _stage_two_tokens(self, pixels: Tensor) -> Tensor | None:
        if self.stage_two is None:
            return None
        tokens: Tensor = self.stage_two(pixels, self.patch_grid(pixels))
        return tokens

    def first_stage(self) -> nn.Module:
        """Transformer blocks before the first grouping block."""
        return self.image.stages[0]

    def run_first_stage(self, pixels: Tensor) -> FirstStage:
        """Everything before the first grouping block."""
        return self.image.run_first_stage(pixels)

    def first_stage_is_fixed(self) -> bool:
        """Whether nothing before the first grouping block is trained, drawn, or reads the pixels again."""
        tower, stage = self.image, self.image.stages[0]
        before = [tower.positions, *tower.patch_embedding.parameters(), *tower.patch_norm.parameters()]
        before += [weight for name, weight in stage.named_parameters() if not name.startswith("grouping.")]
        trained = any(weight.requires_grad for weight in before)
        return tower.config.drop_path == 0 and not trained and self.stage_two is None

    def grouping_blocks(self) -> list[nn.Module]:
        """All grouping blocks, in their order."""
        stages = [stage for stage in self.image.stages if isinstance(stage, GroupingStage)]
        return [stage.grouping for stage in stages if stage.grouping is not None]

    def parts(self) -> Mapping[str, Sequence[nn.Parameter]]:
        """As in Table 3; not those that take no part in the model's function, or are a teacher's."""
        blocks = self.grouping_blocks()
        modules: dict[str, list[nn.Module]] = {
            "nothing": [],
            "both_gbs": blocks,
            "gb2": blocks[-1:],
            "image_projector": [self.image_projector],
            "projectors": [self.image_projector, self.text_projector],
            "image_tower": [self.image],
            "all": [self],
        }
        out: set[nn.Parameter] = set()
        if self.stage_two is not None:
            out.update(self.stage_two.parameters())
            out.update(blocks[0].parameters())  # its segments are replaced
        return {
            name: [weight for module in some for weight in module.parameters() if weight not in out]
            for name, some in modules.items()
        }

    def with_image_size(self, image_size: int) -> GroupViT:
        """The same weights with the position embedding resized to another training size in pixels."""
        try:
            config = replace(self.config, image=replace(self.config.image, image_size=image_size))
        except ValueError as error:
            raise RegroupError(f"{error}") from None
        if config == self.config:
            return self
        state = self.state_dict()
        grid = config.image.grid
        state["image.positions"] = resize_positions(state["image.positions"], grid, grid)
        resized = GroupViT(config, draw=False)
        resized.load_state_dict(state)
        return resized.train(self.training)

    def facts(self) -> list[tuple[str, str]]:
        """Its sizes in words."""
        image, text, network = self.config.image, self.config.text, self.config.stage_two
        stages = ", ".join(
            f"{stage.depth} blocks" + (f" -> {stage.group_tokens} groups" if stage.group_tokens else "")
            for stage in image.stages
        )
        tower = f"{image.image_size} px, patch {image.patch_size}, width {image.width}, {image.heads} heads"
        second = []
        if network is not None:
            described = f"keys of block {network.layer} of a {network.kind} ViT, patch {network.patch_size}"
            second = [("input of stage 2", described)]
        return [
            ("image tower", tower),
            ("stages", stages),
            *second,
            ("text tower", text.described),
            ("joint space", f"{self.config.joint_width} channels through {self.config.projector_hidden}"),
        ]
