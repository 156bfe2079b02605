"""What can be wrong with the runs of a study before any is started: sizes and shapes that do not fit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.model.config import GroupViTConfig
from regroup.params import Params
from regroup.resolved import fill_in, overridden
from regroup.sources.mini.write import CAPTIONS_PER_IMAGE
from regroup.variants import Variant, plugin_faults


def untrainable(variants: Mapping[str, Variant], params: Params, path: Path) -> Iterator[str]:
    """The faults of every run that trains, each with its variant or, where it is at fault, the profile."""
    try:
        start = starting_config(params)
    except RegroupError as error:
        yield f"{path}: checkpoint: {error}"
        start = None
    yield from plugin_faults(variants, params.variants_file)
    yield from _overrides(variants, params)
    for name, variant in variants.items():
        if variant.trained:
            where = f"{params.variants_file}: variants.{name}"
            yield from _batch(variant, params, where, path)
            yield from _image_size(variant, params, start, where, path)
            if start is not None:
                yield from _shape(variant, params, start, where, path)


def _overrides(variants: Mapping[str, Variant], params: Params) -> Iterator[str]:
    """What a variant sets of its own, beside the profile's values; and two that come to the same run so."""
    seen: dict[str, str] = {}
    for name, variant in variants.items():
        where = f"{params.variants_file}: variants.{name}"
        try:
            scale = overridden(params.finetune, variant, where=where)
        except RegroupError as error:
            yield str(error)
            continue
        try:
            run = json.dumps([fill_in(variant, where=where), scale.model_dump(mode="json")])
        except RegroupError:
            continue  # among the faults of plugins
        if run in seen and variant.trained:
            yield f"{where}: is the same run as variants.{seen[run]}, every default filled in; keep one"
        seen[run] = name


def starting_config(params: Params) -> GroupViTConfig | None:
    """The shape of the checkpoint that runs start from; None where it cannot be known yet.

    Raises:
        RegroupError: what is there is no checkpoint.
    """
    checkpoint = params.checkpoint
    if checkpoint.kind == "random":
        return checkpoint.model
    beside = checkpoint.path / "config.json"
    if beside.is_file() and isinstance(values := read_json(beside), dict) and "image" in values:
        return GroupViTConfig.from_dict(values, source=str(beside))
    if checkpoint.path.exists():
        from regroup.model.checkpoint import read_checkpoint

        return read_checkpoint(checkpoint.path).config
    # what `weights` will fetch is the published model
    return GroupViTConfig() if checkpoint.path.is_relative_to(params.layout.weights) else None


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
    variant: Variant, params: Params, start: GroupViTConfig | None, where: str, path: Path
) -> Iterator[str]:
    size = params.finetune.image_sizes.get(variant.resolution)
    if size is None:
        yield f"{where}.resolution: finetune.image_sizes of {path} has no size for {variant.resolution}"
    elif start is not None and size % start.image.patch_size:
        yield (
            f"{path}: finetune.image_sizes.{variant.resolution}: {size} pixels are no multiple of the "
            f"patches of {start.image.patch_size} of {params.checkpoint.path}"
        )


def _shape(variant: Variant, params: Params, start: GroupViTConfig, where: str, path: Path) -> Iterator[str]:
    from regroup.model.restage import stages_for

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
