"""What a run really uses, every default filled in: the files of the stage `resolve`.

A stage that depends on such a file runs again when one of its values changes, wherever that comes from:
params.yaml, variants.yaml or a default in code; `code` has the digests of the plugins that it uses. What a
run does not use is not in it: the title and table rows of a variant, the image size of another resolution,
the settings of training where nothing is trained, a plugin of others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regroup.backbones import ROOM as BACKBONES
from regroup.dino.settings import DinoParams
from regroup.errors import RegroupError
from regroup.io import read_json, sha256, write_changed
from regroup.params import Params, ProfilePaths, load_params
from regroup.seeds import all_seeds
from regroup.settings import Settings, parse
from regroup.study import load_borrowed, params_of
from regroup.training.settings import (
    AugmentationSettings,
    CheckpointParams,
    FinetuneParams,
    OptimiserParams,
)
from regroup.variants import ROOMS, Variant, code_digests
from regroup.variants_file import check_plugins, load_lent

OVERRIDABLE: Mapping[str, type[Settings]] = {
    "optimiser": OptimiserParams,
    "augmentation": AugmentationSettings,
}
"""The parts of `finetune` of which a variant may replace single values."""

_NONE: Mapping[str, str] = {}


@dataclass(frozen=True)
class ResolvedRun:
    """The runs of one variant, all its seeds; `variant` has its name for a title and no rows."""

    variant: Variant
    checkpoint: CheckpointParams
    finetune: FinetuneParams


class ResolvedDino(Settings):
    """The self-supervised features; `view`: how the stand-in's crops are taken (None: nothing is trained)."""

    dino: DinoParams
    view: AugmentationSettings | None = None


def resolve_run(
    variant: Variant, checkpoint: CheckpointParams, finetune: FinetuneParams, *, where: str = "variant"
) -> dict[str, Any]:
    """The values that one run uses, as written to its file.

    Args:
        variant: the run.
        checkpoint: what it starts from.
        finetune: the profile's scale.
        where: what messages begin with.

    Raises:
        RegroupError: the profile has no image size for the variant's resolution, or what the variant sets is
            unknown or out of range.
    """
    unused = {"model", "seed"} if checkpoint.kind == "file" else set()
    every = variant.model_copy(update={"seeds": all_seeds(variant.seeds, finetune.seeds)})
    values: dict[str, Any] = {
        "variant": fill_in(every, where=where),
        "checkpoint": checkpoint.model_dump(mode="json", exclude=unused),
        "code": code_digests(variant)
        | {f"backbones.{checkpoint.backbone}": BACKBONES.digest(checkpoint.backbone)},
    }
    if variant.checkpoint is not None:  # DVC watches the profile's own alone
        values["content"] = content_digest(checkpoint.path)
    if not variant.trained:
        return values
    if variant.resolution not in finetune.image_sizes:
        raise RegroupError(f"finetune.image_sizes: no size for the resolution {variant.resolution}")
    scale = overridden(finetune, variant, where=where).model_dump(
        mode="json", exclude={"image_sizes", "seeds"}
    )
    return {**values, "finetune": scale, "image_size": finetune.image_sizes[variant.resolution]}


def checkpoint_of(variant: Variant, params: Params, *, where: str) -> CheckpointParams:
    """What a run starts from.

    Raises:
        RegroupError: the variant names a checkpoint that the profile does not have; `where` is the variant.
    """
    if variant.checkpoint is None:
        return params.checkpoint
    if variant.checkpoint not in params.checkpoints:
        known = ", ".join(params.checkpoints) or "none"
        raise RegroupError(
            f"{where}.checkpoint: `checkpoints` of {params.params_file} has no {variant.checkpoint}; it has "
            f"{known}"
        )
    return params.checkpoints[variant.checkpoint]


def content_digest(path: Path) -> str:
    """SHA-256 of a checkpoint, a file or the files of a folder.

    Raises:
        RegroupError: there is nothing.
    """
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise RegroupError(f"{path}: no such checkpoint; see `checkpoints` of the profile")
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(path)}\0{sha256(file)}\n".encode())
    return total.hexdigest()


def overridden(finetune: FinetuneParams, variant: Variant, *, where: str) -> FinetuneParams:
    """The profile's settings of training with the values that a variant has of its own.

    Raises:
        RegroupError: an unknown key, or a value that is out of range beside the profile's others; the message
            begins with `where`.
    """
    merged = {
        key: parse(model, {**getattr(finetune, key).model_dump(), **own}, f"{where}.{key}")
        for key, model in OVERRIDABLE.items()
        if (own := getattr(variant, key))
    }
    return finetune.model_copy(update=merged) if merged else finetune


def fill_in(variant: Variant, *, where: str) -> dict[str, Any]:
    """A variant's science with every default of its plugins; what it overrides is not in it.

    Raises:
        RegroupError: an option that is unknown or out of range.
    """
    resolved = {*OVERRIDABLE, "checkpoint"}  # a name means nothing any more
    science = {key: value for key, value in variant.science.items() if key not in resolved}
    for field, room in ROOMS.items():
        for use in science.get(field, ()):
            name = use["name"]
            told = room.options(name, use["options"], where=f"{where}.{field}.{name}")
            use["options"] = told.model_dump(mode="json")
    return science


def resolve_dino(params: DinoParams) -> dict[str, Any]:
    """The values that the features come from, as written to their file."""
    if params.kind == "file":
        return {"dino": params.model_dump(mode="json", exclude={"stand_in"})}
    dino = params.model_dump(mode="json", exclude={"layer"})
    return {"dino": dino, "view": params.stand_in.view.model_dump(mode="json")}


def borrowed_backbones(params: Params) -> dict[str, str]:
    """Which backbone each run of another study is of that a study borrows, by its name here.

    Raises:
        RegroupError: as for `checkpoint_of` and `load_lent`, or the other study's parameters cannot be read.
    """
    path, borrowed = params.variants_file, load_borrowed(params.variants_file)
    lent = load_lent(path, params.data)
    lenders = {
        study: load_params(params_of(study, params.data))
        for study in {one.study for one in borrowed.values()}
    }
    return {
        name: checkpoint_of(lent[name], lenders[one.study], where=f"{path}: borrowed.{name}").backbone
        for name, one in borrowed.items()
    }


def write_resolved(
    params: Params,
    variants: Mapping[str, Variant],
    layout: ProfilePaths,
    borrowed: Mapping[str, str] = _NONE,
) -> list[Path]:
    """Write files for each variant, and that of the features; files of variants that are no more go.

    Of a variant there are two: all that its run uses, and which backbone's code reads its checkpoint. Of a
    run that is borrowed there is the second.

    A file that says the same already is not touched.

    Args:
        params: of the profile or study.
        variants: the runs.
        layout: where the files go.
        borrowed: what `borrowed_backbones` finds.

    Returns:
        Those that were written.

    Raises:
        RegroupError: as for `resolve_run` and `check_plugins`; nothing is written then.
    """
    check_plugins(variants, params.variants_file)
    files = {
        layout.resolved(name): resolve_run(
            variant,
            checkpoint_of(variant, params, where=f"{params.variants_file}: variants.{name}"),
            params.finetune,
            where=f"{params.variants_file}: variants.{name}",
        )
        for name, variant in variants.items()
    }
    own = {name: checkpoint_of(one, params, where=name).backbone for name, one in variants.items()}
    for name, backbone in {**own, **borrowed}.items():
        files[layout.backbone(name)] = {"backbone": backbone, "code": BACKBONES.digest(backbone)}
    if params.data == params.name:  # else the features are the profile's, not this study's
        files[layout.dino_settings] = resolve_dino(params.dino)
    there = [path for kind in ("json", "backbone") for path in layout.variants.glob(f"*.{kind}")]
    return write_changed(files, there)


def read_run(path: Path) -> ResolvedRun:
    """Read the file of one variant.

    Raises:
        RegroupError: the file is missing, or is not what `write_resolved` writes.
    """
    values = _read(path)
    science = values.pop("variant", None)
    if not isinstance(science, dict):
        raise RegroupError(
            f"{path}: variant: this key is missing; `dvc repro --force resolve` writes it anew"
        )
    for key in ("code", "content"):  # for DVC
        values.pop(key, None)
    variant = parse(Variant, {"title": path.stem, **science}, path)
    size, scale = values.pop("image_size", None), values.pop("finetune", {})
    if size is not None:
        scale["image_sizes"] = {variant.resolution: size}
    return ResolvedRun(
        variant,
        parse(CheckpointParams, values.pop("checkpoint", {}), path),
        parse(FinetuneParams, scale, path),
    )


def read_dino(path: Path) -> ResolvedDino:
    """Read the file of the features; errors as for `read_run`."""
    return parse(ResolvedDino, _read(path), path)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise RegroupError(f"{path}: no such file; `dvc repro resolve` writes it")
    values = read_json(path)
    if not isinstance(values, dict):
        raise RegroupError(f"{path}: not an object; `dvc repro --force resolve` writes it anew")
    return values
