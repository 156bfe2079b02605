"""The device to work on."""

from __future__ import annotations

import torch

from regroup.errors import RegroupError


def choose_device(name: str, *, key: str = "device") -> torch.device:
    """The kind of device that `auto`, `cpu` or `cuda` means here; `auto` is a CUDA device if there is one.

    Args:
        name: one of the three.
        key: what the message says to change.

    Raises:
        RegroupError: another name, or `cuda` where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise RegroupError(f"{key}: {name!r} is none of auto, cpu and cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise RegroupError(f"{key}: cuda is asked for, but torch sees no CUDA device; use auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
