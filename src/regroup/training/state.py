"""What a killed run resumes from: written whole or not at all, read back without unpickling objects."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regroup.errors import RegroupError
from regroup.io import atomic_path

FILE = "state.pt"


@dataclass(frozen=True)
class TrainingState:
    """A run after `step` optimiser steps.

    There are no generators in it: every random draw of a run comes from (seed, step) or (seed, epoch,
    sample). `fingerprint` says which run this is (its settings and its inputs), so that a changed one starts
    anew. `recent` are the steps since the last row of the curve.
    """

    fingerprint: str
    step: int
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    curve: list[dict[str, float]]
    recent: list[dict[str, float]]

    def save(self, folder: Path) -> None:
        """Write the state into `folder`, replacing the one before."""
        with atomic_path(folder / FILE) as path:
            torch.save(self.__dict__, path)


def load_state(folder: Path, fingerprint: str) -> TrainingState | None:
    """The state in `folder`, or None when there is none or it belongs to another run.

    Raises:
        RegroupError: the file is there but cannot be read; the message says to delete it.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        state = TrainingState(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise RegroupError(
            f"{path}: cannot resume from it ({error}); delete it to start this run anew"
        ) from error
    return state if state.fingerprint == fingerprint else None


def forget(folder: Path) -> None:
    """Remove the state of a run that has ended."""
    shutil.rmtree(folder, ignore_errors=True)
