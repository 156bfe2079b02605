"""What a run really uses, every default filled in: the files of the stage `resolve`.

A stage that depends on such a file runs again when one of its values changes, wherever that comes from:
params.yaml, variants.yaml or a default in code. What a run does not use is not in it: the title and table
rows of a variant, the image size of another resolution, the settings of training where nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regroup.dino.settings import DinoParams
from regroup.errors import RegroupError
from regroup.io import json_bytes, read_json, write_bytes
from regroup.params import Params, ProfilePaths
from regroup.settings import Settings, parse
from regroup.training.settings import AugmentationSettings, CheckpointParams, FinetuneParams
from regroup.variants import Variant


@dataclass(frozen=True)
class ResolvedRun:
    """One fine-tuning run; `variant` has its name for a title and no rows."""

    variant: Variant
    checkpoint: CheckpointParams
    finetune: FinetuneParams


class ResolvedDino(Settings):
    """The self-supervised features; `view`: how the stand-in's crops are taken (None: nothing is trained)."""

    dino: DinoParams
    view: AugmentationSettings | None = None


def resolve_run(variant: Variant, checkpoint: CheckpointParams, finetune: FinetuneParams) -> dict[str, Any]:
    """The values that one run uses, as written to its file.

    Raises:
        RegroupError: the profile has no image size for the variant's resolution.
    """
    unused = {"model", "seed"} if checkpoint.kind == "file" else set()
    values = {"variant": variant.science, "checkpoint": checkpoint.model_dump(mode="json", exclude=unused)}
    if not variant.trained:
        return values
    if variant.resolution not in finetune.image_sizes:
        raise RegroupError(f"finetune.image_sizes: no size for the resolution {variant.resolution}")
    scale = finetune.model_dump(mode="json", exclude={"image_sizes"})
    return {**values, "finetune": scale, "image_size": finetune.image_sizes[variant.resolution]}


def resolve_dino(params: DinoParams) -> dict[str, Any]:
    """The values that the features come from, as written to their file."""
    if params.kind == "file":
        return {"dino": params.model_dump(mode="json", exclude={"stand_in"})}
    dino = params.model_dump(mode="json", exclude={"layer"})
    return {"dino": dino, "view": params.stand_in.view.model_dump(mode="json")}


def write_resolved(params: Params, variants: Mapping[str, Variant], layout: ProfilePaths) -> list[Path]:
    """Write a file for each variant, and that of the features; files of variants that are no more go.

    A file that says the same already is not touched.

    Returns:
        Those that were written.

    Raises:
        RegroupError: as for `resolve_run`; nothing is written then.
    """
    files = {
        layout.resolved(name): resolve_run(variant, params.checkpoint, params.finetune)
        for name, variant in variants.items()
    }
    for path in set(layout.variants.glob("*.json")) - set(files):
        path.unlink()
    if params.data == params.name:  # else the features are the profile's, not this study's
        files[layout.dino_settings] = resolve_dino(params.dino)
    written = []
    for path, values in files.items():
        content = json_bytes(values)
        if not path.is_file() or path.read_bytes() != content:
            write_bytes(path, content)
            written.append(path)
    return written


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
