"""What a killed run resumes from: its weights and optimiser, the snapshots so far, and who may write them.

Nothing here is trusted that cannot be checked: a state is resumed from only if it is whole, if its snapshots
are whole, and if the same settings, inputs, code and kind of machine made it. Otherwise the run starts anew
and says why.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regroup.io import atomic_path, read_sealed, seal, sha256
from regroup.lease import LeaseLostError, acquire, holder, stale_seconds

FILE = "state.pt"


@dataclass(frozen=True)
class TrainingState:
    """A run after `step` optimiser steps.

    There are no generators in it: every random draw of a run comes from (seed, step) or (seed, epoch,
    sample). `fingerprint` says, part by part, what made it (settings, inputs, code, machine), so that a run
    where one has changed starts anew. `model` is the adapted one, its adapters included. `recent` are the
    steps since the last row of the curve, `snapshots` the digests of the snapshots taken.
    """

    fingerprint: Mapping[str, str]
    step: int
    model: dict[str, Tensor]
    optimiser: dict[str, Any]
    curve: list[dict[str, float]]
    recent: list[dict[str, float]]
    snapshots: dict[str, str] = field(default_factory=dict)
    heads: dict[str, Tensor] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the state into `folder`, replacing the one before."""
        with atomic_path(folder / FILE) as path:
            torch.save({**self.__dict__, "fingerprint": dict(self.fingerprint)}, path)
            seal(path)


def load_state(folder: Path, fingerprint: Mapping[str, str], *, tell: bool = True) -> TrainingState | None:
    """The state in `folder`, or None when there is none that this run may go on from; `tell` says why."""
    path = folder / FILE
    if not path.exists():
        return None
    state, reason = _checked(folder, fingerprint)
    if reason and tell:
        print(f"{path}: not resumed from, because {reason}; this run starts anew", file=sys.stderr)
    return None if reason else state


def _checked(folder: Path, fingerprint: Mapping[str, str]) -> tuple[TrainingState | None, str]:
    """The state, and why it cannot be used if so."""
    content = read_sealed(folder / FILE)
    if content is None:
        return None, "the file is damaged"
    try:
        # whole, so this project wrote it; a state of another version may have other parts
        state = TrainingState(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        keys = sorted(fingerprint.keys() | state.fingerprint.keys())
        changed = [key for key in keys if state.fingerprint.get(key) != fingerprint.get(key)]
    except Exception:
        return None, "another version of the code wrote it"
    if changed:
        return None, f"it is of other {' and '.join(changed)}"
    for name, digest in state.snapshots.items():
        if not (folder / name).is_file() or sha256(folder / name) != digest:
            return None, f"its snapshot {name} is damaged"
    return state, ""


def forget(folder: Path) -> None:
    """Remove the state of a run that has ended."""
    shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Claim:
    """That one run, and no other on any host, writes a state and the outputs made from it."""

    path: Path | None = None
    token: str = ""

    def confirm(self) -> None:
        """Make sure of it, before something is written.

        Raises:
            LeaseLostError: another run has taken this one for dead.
        """
        if self.path is not None and ((owner := holder(self.path)) is None or owner.token != self.token):
            raise LeaseLostError(
                f"{self.path}: another run took this one for dead (silent for too long); start again"
            )


@contextmanager
def claimed(folder: Path) -> Iterator[Claim]:
    """For the block, let no other run use the state in `folder`, in whatever process, container or host.

    A run that was killed holds nothing; one of another host, as soon as it has been silent for a while. So
    this waits for twice that time, and if a run is still in the way, it is alive.

    Raises:
        RegroupError: another run is at work.
    """
    path = folder.with_name(f"{folder.name}.lock")
    with acquire(path, wait=2 * stale_seconds()) as lease:
        yield Claim(path, lease.owner.token)
