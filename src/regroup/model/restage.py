"""Pretrained weights for other numbers of grouping blocks (section 5.13)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from regroup.errors import RegroupError
from regroup.model.config import StageConfig
from regroup.model.groupvit import GroupViT

_TOKEN_AXES = {
    "group_tokens": (0,),
    "grouping.mixer.mlp.up.weight": (1,),
    "grouping.mixer.mlp.down.weight": (0,),
    "grouping.mixer.mlp.down.bias": (0,),
    "carry.1.mlp.down.weight": (0,),
    "carry.1.mlp.down.bias": (0,),
}
"""Axes of a stage's tensors that run over its own group tokens: the only ones that may be cut."""


@dataclass(frozen=True)
class RestageReport:
    """Where the tensors of a re-staged model came from.

    Attributes:
        copied: number of tensors taken as they are.
        cut: tensors of which only the first group tokens were taken.
        fresh: tensors without a counterpart, left at their initial values.
        dropped: tensors of the source that no tensor of the new model came from.
    """

    copied: int
    cut: tuple[str, ...]
    fresh: tuple[str, ...]
    dropped: tuple[str, ...]


def stages_for(
    stages: Sequence[StageConfig], blocks: int, *, last_tokens: int | None = None
) -> tuple[StageConfig, ...]:
    """Stages with 1, 2 or 3 grouping blocks, given the two-block ones of the pretrained model.

    One block merges the last two stages (6, 3, 3 to 6, 6). Three blocks split the first stage two to one (6,
    3, 3 to 4, 2, 3, 3); the new, third block repeats the tokens of the second.

    Args:
        stages: three stages with two grouping blocks.
        blocks: number of grouping blocks wanted.
        last_tokens: group tokens of the last grouping block; as pretrained by default.

    Raises:
        RegroupError: other numbers of blocks, a first stage too shallow to split, more tokens than
            pretrained.
    """
    if len(stages) != 3:
        raise RegroupError(f"restage: starts from two grouping blocks, but the model has {len(stages) - 1}")
    first, second, third = stages
    if blocks == 1:
        result = [first, StageConfig(second.depth + third.depth)]
    elif blocks == 2:
        result = [first, second, third]
    elif blocks == 3:
        if first.depth < 2:
            raise RegroupError("restage: a first stage of one transformer block cannot be split in two")
        head = max(1, round(2 * first.depth / 3))
        split = [StageConfig(head, first.group_tokens), StageConfig(first.depth - head, second.group_tokens)]
        result = [*split, second, third]
    else:
        raise RegroupError(f"restage: {blocks} grouping blocks; the study has 1, 2 and 3")
    if last_tokens is not None:
        available = result[-2].group_tokens
        if not 1 <= last_tokens <= available:
            raise RegroupError(f"restage: {last_tokens} tokens in the last block, but 1 to {available} exist")
        result[-2] = replace(result[-2], group_tokens=last_tokens)
    return tuple(result)


def restage(
    model: GroupViT,
    stages: Sequence[StageConfig],
    *,
    generator: torch.Generator | None = None,
) -> tuple[GroupViT, RestageReport]:
    """A model with other stages that starts from the weights of `model`, as in section 5.13.

    Transformer blocks keep their place in the sequence of all blocks. Grouping block k comes from block k, or
    from the last one where there is none; fewer group tokens take the first of the source's. Where a shape
    still does not fit (the mixer between two stages whose token numbers are new to each other) the tensor is
    fresh.

    Args:
        model: the pretrained model; not changed.
        stages: the new stages, of the same depth in all.
        generator: source of the fresh tensors.

    Raises:
        RegroupError: the depths do not add up to the model's.
    """
    old = model.config.image
    depth = sum(stage.depth for stage in stages)
    if depth != old.depth:
        raise RegroupError(f"restage: stages of {depth} blocks in all, but the model has {old.depth}")
    config = replace(model.config, image=replace(old, stages=tuple(stages)))
    result = GroupViT(config, generator=generator)
    source, target = model.state_dict(), result.state_dict()
    used: set[str] = set()
    copied, cut, fresh = 0, [], []
    for name, tensor in target.items():
        origin = _origin(name, config.image.stages, old.stages)
        value = _fit(source.get(origin), tensor, name)
        if value is None:
            fresh.append(name)
            continue
        used.add(origin)
        if value.shape == source[origin].shape:
            copied += 1
        else:
            cut.append(name)
        tensor.copy_(value)
    report = RestageReport(
        copied, tuple(cut), tuple(fresh), tuple(name for name in source if name not in used)
    )
    return result.train(model.training), report


def _origin(name: str, new: Sequence[StageConfig], old: Sequence[StageConfig]) -> str:
    """The name in the old model of the tensor that `name` starts from."""
    match = re.match(r"image\.stages\.(\d+)\.(.*)", name)
    if match is None:
        return name
    stage, rest = int(match[1]), match[2]
    block = re.match(r"blocks\.(\d+)\.(.*)", rest)
    if block is None:
        return f"image.stages.{min(stage, len(old) - 2)}.{rest}"
    place = sum(config.depth for config in new[:stage]) + int(block[1])
    for index, config in enumerate(old):
        if place < config.depth:
            return f"image.stages.{index}.blocks.{place}.{block[2]}"
        place -= config.depth
    raise AssertionError("depths were checked")


def _fit(value: Tensor | None, target: Tensor, name: str) -> Tensor | None:
    """`value` cut to the target's group tokens, or None when it cannot fit."""
    if value is None or value.ndim != target.ndim:
        return None
    local = re.sub(r"^image\.stages\.\d+\.", "", name)
    for axis in _TOKEN_AXES.get(local, ()):
        value = value.narrow(axis, 0, min(value.shape[axis], target.shape[axis]))
    return value if value.shape == target.shape else None
