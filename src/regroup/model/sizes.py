"""What any backbone's sizes must hold to, and how they are read from the plain values of a `config.json`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from regroup.errors import RegroupError, shown

Config = TypeVar("Config")

LARGEST = {
    "image_size": 8192,
    "patch_size": 1024,
    "width": 16384,
    "heads": 1024,
    "hidden": 65536,
    "layer": 128,
    "depth": 128,
    "group_tokens": 8192,
    "stages": 16,
    "mlp_ratio": 64,
    "assign_eps": 1e6,
    "context": 4096,
    "projector_hidden": 262144,
    "joint_width": 16384,
}
"""Far above any model of this kind; what is larger is a damaged file and would hang or exhaust the memory."""
MOST_PARAMETERS = 4_000_000_000
"""Of a whole model, 16 GB in float32; the published one has 55.7 M."""


def require(condition: bool, message: str) -> None:
    """Refuse a configuration; pydantic turns the ValueError into a message with the key's place."""
    if not condition:
        raise ValueError(message)


def require_bounded(**values: float) -> None:
    """Refuse values far above any model of this kind."""
    for name, value in values.items():
        require(value <= LARGEST[name], f"{name}: {value:g} is more than {LARGEST[name]:g}")


def require_patches(image_size: int, patch_size: int) -> None:
    """Refuse an image that is not a whole number of patches."""
    require(patch_size >= 1, f"patch_size: {patch_size} is not positive")
    require_bounded(image_size=image_size, patch_size=patch_size)
    require(
        image_size >= patch_size and image_size % patch_size == 0,
        f"image_size: {image_size} is not a multiple of the patch size {patch_size}",
    )


def require_heads(width: int, heads: int) -> None:
    """Refuse a width that the heads cannot share."""
    require(
        heads >= 1 and width >= 1 and width % heads == 0,
        f"width: {width} is not a multiple of the {heads} heads",
    )
    require_bounded(width=width, heads=heads)


def without_architecture(value: object, expected: str, source: str) -> object:
    """The values of a `config.json` but for the architecture's name, which GroupViT's older files lack.

    Raises:
        RegroupError: it is another one.
    """
    if not isinstance(value, dict):
        return value
    named = value.get("architecture", "groupvit")
    if named != expected:
        raise RegroupError(f"{source}: architecture: {shown(named)} is not {expected}")
    return {key: part for key, part in value.items() if key != "architecture"}


def rebuild(cls: type[Config], value: object, source: str) -> Config:
    """A dataclass of sizes from the plain values of a `config.json`.

    Raises:
        RegroupError: a key is unknown, missing or ill-typed, or values contradict each other.
    """
    try:
        result = TypeAdapter(cls).validate_python(value)
    except (ValidationError, RecursionError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        key = ".".join(str(part) for part in first["loc"]) if first else ""
        message = first["msg"] if first else "nested too deeply"
        raise RegroupError(
            f"{source}: {shown(key) or '(top level)'}: {shown(message, 300)}; compare with a config.json of "
            "`regroup`"
        ) from None
    # a default in place of a key that is not there would be another model, and nobody would see it
    lacking = sorted(_keys(asdict(result)) - _keys(value) - {"stage_two"})  # type: ignore[call-overload]  # of any dataclass
    if lacking:
        raise RegroupError(
            f"{source}: {lacking[0]}: this key is missing; compare with a config.json of `regroup`"
        )
    return result


def _keys(value: object, prefix: str = "") -> set[str]:
    """Dotted names of every key."""
    if isinstance(value, list | tuple):
        return set().union(*(_keys(part, f"{prefix}{number}.") for number, part in enumerate(value)))
    if not isinstance(value, dict):
        return set()
    own = {f"{prefix}{key}" for key in value}
    return own.union(*(_keys(part, f"{prefix}{key}.") for key, part in value.items()))
