"""What can be wrong with the runs of a study before any is started: sizes and shapes that do not fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from regroup import backbones
from regroup.adaptation import ADAPTATIONS
from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.model.config import GroupViTConfig
from regroup.objectives import Need, needs
from regroup.params import Params, weight_folders
from regroup.resolved import checkpoint_of, fill_in, overridden
from regroup.sources.mini.drawn.coco import CAPTIONS_PER_IMAGE
from regroup.training.settings import BatchNormSettings, CheckpointParams
from regroup.variants import Variant
from regroup.variants_file import plugin_faults

if TYPE_CHECKING:
    from regroup.model.interface import BackboneConfig


def untrainable(variants: Mapping[str, Variant], params: Params, path: Path) -> Iterator[str]:
    """The faults of every run that trains, each with its variant or, where it is at fault, the profile."""
    starts: dict[str, BackboneConfig | None] = {}
    checkpoints = {f"checkpoints.{name}": one for name, one in params.checkpoints.items()}
    for key, checkpoint in {"checkpoint": params.checkpoint, **checkpoints}.items():
        try:
            starts[key] = starting_config(checkpoint, params)
        except RegroupError as error:
            yield f"{path}: {key}: {error}"
    yield from plugin_faults(variants, params.variants_file)
    yield from _overrides(variants, params)
    for name, variant in variants.items():
        where = f"{params.variants_file}: variants.{name}"
        try:
            checkpoint_of(variant, params, where=where)
        except RegroupError as error:
            yield str(error)
            continue
        yield from _not_there(variant, params, path)
        if variant.trained:
            start = starts.get(
                "checkpoint" if variant.checkpoint is None else f"checkpoints.{variant.checkpoint}"
            )
            yield from _batch(variant, params, where, path)
            yield from _image_size(variant, params, start, where, path)
            if start is not None:
                yield from _parts(variant, start, where)
                yield from _adaptations(variant, start, where)
                yield from _constants(variant, start, where)
                yield from _shape(variant, params, start, where, path)


def _overrides(variants: Mapping[str, Variant], params: Params) -> Iterator[str]:
    """What a variant sets of its own, beside the profile's values; and two that come to the same run so."""
    seen: dict[str, list[str]] = {}
    for name, variant in variants.items():
        where = f"{params.variants_file}: variants.{name}"
        try:
            scale = overridden(params.finetune, variant, where=where)
        except RegroupError as error:
            yield str(error)
            continue
        try:
            science = {key: value for key, value in fill_in(variant, where=where).items() if key != "seeds"}
        except RegroupError:
            continue  # among the faults of plugins
        run = json.dumps([variant.checkpoint, science, scale.model_dump(mode="json")])
        others = seen.setdefault(run, [])
        for other in others:
            if variant.trained and set(variant.seeds) & set(variants[other].seeds):
                yield f"{where}: is the same run as variants.{other}, every default filled in; keep one"
        others.append(name)


def starting_config(checkpoint: CheckpointParams, params: Params) -> BackboneConfig | None:
    """The shape of a checkpoint that runs start from; None where it cannot be known yet.

    Raises:
        RegroupError: what is there is no checkpoint, or one of another backbone than the profile says.
    """
    if checkpoint.kind == "random":
        return checkpoint.model
    beside = checkpoint.path / "config.json"
    config: BackboneConfig | None = None
    if beside.is_file() and isinstance(values := read_json(beside), dict) and "image" in values:
        config = backbones.config_from(values, source=str(beside))
    elif checkpoint.path.exists():
        config = backbones.read_checkpoint(checkpoint.path).config
    elif checkpoint.backbone == "groupvit" and any(
        map(checkpoint.path.is_relative_to, weight_folders(params))
    ):
        config = GroupViTConfig()  # what `weights` will fetch is the published model
    if config is not None and config.architecture != checkpoint.backbone:
        raise RegroupError(
            f"backbone: {checkpoint.path} holds a {config.architecture}, not a {checkpoint.backbone}"
        )
    return config


def _parts(variant: Variant, start: BackboneConfig, where: str) -> Iterator[str]:
    """Parts to train that a backbone does not have."""
    for one in variant.adapt:
        wanted = str(one.options.get("train", "both_gbs")).split("+") if one.name == "parts" else []
        if lacking := sorted(set(wanted) - start.parts):
            yield (
                f"{where}.trainable: a {start.architecture} has no {', '.join(lacking)}; it has "
                f"{', '.join(sorted(start.parts))}"
            )


def _adaptations(variant: Variant, start: BackboneConfig, where: str) -> Iterator[str]:
    """What a run would refuse to attach, or to do with batch norms, tried on a model without numbers."""
    norms = variant.batch_norm
    plain = norms.statistics in ("batch", "recomputed") and (
        isinstance(start, GroupViTConfig) or norms == BatchNormSettings()
    )
    if plain and [use.name for use in variant.adapt] in ([], ["parts"]):
        return  # its names say all
    import torch

    from regroup.adaptation import adapt
    from regroup.training.batch_norm import check_batch_norm

    try:
        for use in variant.adapt:
            ADAPTATIONS.options(use.name, use.options)
    except RegroupError:
        return  # among the faults of plugins
    try:
        model = backbones.make(_regrouped(variant, start), torch.Generator()).to("meta")
        adapt(model, variant.adapt, seed=variant.seed)
        check_batch_norm(model, norms)
    except RegroupError as error:
        yield f"{where}.{error}"


def _regrouped(variant: Variant, start: BackboneConfig) -> BackboneConfig:
    """The sizes that a run trains: its own number of grouping blocks, where these can be made."""
    if not isinstance(start, GroupViTConfig):
        return start
    from regroup.model.restage import stages_for

    try:
        stages = stages_for(start.image.stages, variant.grouping_blocks)
    except RegroupError:
        return start  # among the faults of shapes
    return replace(start, image=replace(start.image, stages=stages))


def _constants(variant: Variant, start: BackboneConfig, where: str) -> Iterator[str]:
    """Objectives of the assignment alone, where it is fixed: each patch is a segment of its own."""
    if isinstance(start, GroupViTConfig):
        return
    for term in variant.objectives:
        if Need.ATTENTION in (asked := needs([term])) and asked <= _FIXED:
            yield (
                f"{where}.objectives: {term.name} is about how patches are grouped, and a "
                f"{start.architecture} has no groups: nothing would change it; drop it"
            )


_FIXED = frozenset({Need.ATTENTION, Need.DINO, Need.TEACHER})
"""What training does not change in a backbone without groups."""


def _not_there(variant: Variant, params: Params, path: Path) -> Iterator[str]:
    """A checkpoint that a run of its own starts from; the profile's is looked for in any case."""
    if variant.checkpoint is None or (start := params.checkpoints[variant.checkpoint]).kind == "random":
        return
    if not start.path.exists() and not any(map(start.path.is_relative_to, weight_folders(params))):
        yield f"{path}: checkpoints.{variant.checkpoint}.path: {start.path} does not exist"


def _batch(variant: Variant, params: Params, where: str, path: Path) -> Iterator[str]:
    settings = params.finetune
    batch = variant.batch // settings.batch_divisor
    if batch < 2:
        yield (
            f"{where}.batch: {variant.batch} by finetune.batch_divisor {settings.batch_divisor} of {path} "
            "leaves no two images to tell apart"
        )
        return
    processes = settings.processes or max(1, params.resources["finetune"].gpus)
    if batch % processes:
        yield f"{where}.batch: {batch} images in {path} cannot be shared by {processes} processes evenly"
    drawn = params.sources["coco"].kind == "mini"
    captions = params.world.coco_train * CAPTIONS_PER_IMAGE if drawn else None
    known = [count for count in (settings.epoch_samples, captions) if count is not None]
    if known and batch > min(known):
        yield (
            f"{where}.batch: {batch} images in {path} are more than the {min(known)} captions of an epoch; "
            "raise finetune.batch_divisor or finetune.epoch_samples"
        )


def _image_size(
    variant: Variant, params: Params, start: BackboneConfig | None, where: str, path: Path
) -> Iterator[str]:
    size = params.finetune.image_sizes.get(variant.resolution)
    if size is None:
        yield f"{where}.resolution: finetune.image_sizes of {path} has no size for {variant.resolution}"
    elif start is not None and size % start.patch_size:
        yield (
            f"{path}: finetune.image_sizes.{variant.resolution}: {size} pixels are no multiple of the "
            f"patches of {start.patch_size} of {checkpoint_of(variant, params, where=where).path}"
        )


def _shape(variant: Variant, params: Params, start: BackboneConfig, where: str, path: Path) -> Iterator[str]:
    from regroup.model.restage import stages_for

    regroups = variant.grouping_blocks != 2 or variant.last_group_tokens is not None or variant.dino_input
    if not isinstance(start, GroupViTConfig):
        if regroups:
            yield (
                f"{where}: a {start.architecture} has no grouping blocks: drop `grouping_blocks`, "
                "`last_group_tokens` and `dino_input`"
            )
        return

    if variant.grouping_blocks != 2 or variant.last_group_tokens is not None:
        try:
            stages_for(start.image.stages, variant.grouping_blocks)
        except RegroupError as error:
            yield f"{where}.grouping_blocks: {error}"
    if variant.dino_input and params.dino.network.width != start.image.width:
        remedy = (
            f"; give `dino.stand_in.width: {start.image.width}`" if params.dino.kind == "stand-in" else ""
        )
        yield (
            f"{where}.dino_input: features of {params.dino.network.width} channels (`dino` of {path}) do not "
            f"fit tokens of {start.image.width} (`checkpoint`){remedy}. Only runs with `dino_input` need it"
        )
