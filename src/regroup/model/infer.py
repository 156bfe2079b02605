"""Configuration of checkpoints that come without ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from regroup.errors import RegroupError
from regroup.model.config import GroupViTConfig, ImageConfig, StageConfig, TextConfig
from regroup.model.names import Layout

HEAD_CHANNELS = 64
"""Channels of an attention head in all published GroupViT weights; tensors do not show it."""


def infer_config(state: Mapping[str, Tensor], layout: Layout, *, source: str) -> GroupViTConfig:
    """Read the shape of a model off its tensors.

    Heads have 64 channels (at least one head), the drop-path rate and `assign_eps` are the defaults.

    Raises:
        RegroupError: tensors that the shape follows from are missing, or contradict each other.
    """

    def shape(ours: str) -> list[int]:
        name = layout.names(ours)[0]
        if name not in state:
            raise RegroupError(f"{source}: {name} is missing, so the model's shape is unknown")
        return list(state[name].shape)

    def count(pattern: str) -> int:
        number = 0
        while layout.names(pattern.format(number))[0] in state:
            number += 1
        return number

    def stage(index: int) -> StageConfig:
        depth = count(f"image.stages.{index}.blocks.{{}}.norm1.weight")
        tokens = layout.names(f"image.stages.{index}.group_tokens")[0]
        return StageConfig(depth, state[tokens].shape[-2] if tokens in state else 0)

    try:
        stages = [stage(index) for index in range(count("image.stages.{}.blocks.0.norm1.weight"))]
        width, _, patch, _ = shape("image.patch_embedding.weight")
        vocabulary, text_width = shape("text.token_embedding.weight")
        return GroupViTConfig(
            ImageConfig(
                image_size=round(shape("image.positions")[-2] ** 0.5) * patch,
                patch_size=patch,
                width=width,
                heads=max(1, width // HEAD_CHANNELS),
                mlp_ratio=shape("image.stages.0.blocks.0.mlp.up.weight")[0] / width,
                stages=tuple(stages),
            ),
            TextConfig(
                vocabulary=vocabulary,
                context=shape("text.positions")[-2],
                width=text_width,
                depth=count("text.blocks.{}.norm1.weight"),
                heads=max(1, text_width // HEAD_CHANNELS),
            ),
            projector_hidden=shape("image_projector.hidden.weight")[0],
            joint_width=shape("image_projector.out.weight")[0],
        )
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise RegroupError(f"{source}: no GroupViT follows from its tensors: {error}") from None


def overlay_hugging_face_config(config: GroupViTConfig, value: object, *, source: str) -> GroupViTConfig:
    """Take from Hugging Face's `config.json` what tensors do not show: heads and `assign_eps`."""
    value = value if isinstance(value, dict) else {}
    image, text = (
        part if isinstance(part, dict) else {}
        for part in (value.get("vision_config"), value.get("text_config"))
    )
    try:
        return replace(
            config,
            image=replace(
                config.image,
                heads=int(image.get("num_attention_heads", config.image.heads)),
                assign_eps=float(image.get("assign_eps", config.image.assign_eps)),
            ),
            text=replace(config.text, heads=int(text.get("num_attention_heads", config.text.heads))),
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise RegroupError(f"{source}: {error}") from None
