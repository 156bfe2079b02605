"""What a run learns, how far it has come, and what it leaves behind: states, snapshots, its curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from regroup.adaptation import Adapted
from regroup.io import sha256
from regroup.model import Backbone
from regroup.training.parallel import is_first, wait_for_all
from regroup.training.snapshots import FOLDER, save_snapshot
from regroup.training.state import Claim, TrainingState, forget, load_state

Row = dict[str, float]
Curve = list[Row]


@dataclass(frozen=True)
class Learner:
    """All that changes in a run: the adapted model, the heads beside it, and the optimiser of both."""

    model: Backbone
    adapted: Adapted
    heads: nn.ModuleDict
    optimiser: torch.optim.Optimizer

    def load(self, state: TrainingState) -> None:
        """Go back to where a state was."""
        self.model.load_state_dict(state.model)
        self.heads.load_state_dict(state.heads)
        self.optimiser.load_state_dict(state.optimiser)

    def set_rate(self, rate: float) -> None:
        """Set the learning rate of the coming step; heads may have a multiple of it."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["rate"]


@dataclass
class Progress:
    """How far a run has come; every process has one, the first writes it down.

    Attributes:
        folder: of the state that a killed run resumes from, and of its snapshots.
        fingerprint: what the run's bytes follow from, see `TrainingState`.
        claim: that no other run writes the folder.
        learner: what is written down.
        done: optimiser steps.
        curve: a row every so many steps.
        recent: the steps since the last row.
        snapshots: digests of those taken, by name.
    """

    folder: Path
    fingerprint: Mapping[str, str]
    claim: Claim
    learner: Learner
    done: int = 0
    curve: Curve = field(default_factory=list)
    recent: Curve = field(default_factory=list)
    snapshots: dict[str, str] = field(default_factory=dict)

    def resume(self) -> None:
        """Go on from the saved state, or clear up what another run left."""
        saved = load_state(self.folder, self.fingerprint, tell=is_first())
        wait_for_all()  # everyone has looked before the first one clears up
        if saved is not None:
            self.learner.load(saved)
            self.curve, self.recent = saved.curve, saved.recent
            self.snapshots, self.done = saved.snapshots, saved.step
        elif is_first():
            self.claim.confirm()
            forget(self.folder)

    def add(self, row: Row) -> None:
        """Note one more step."""
        self.done += 1
        self.recent.append(row)

    def sum_up(self, epoch: float) -> Row:
        """Add a row to the curve: means over the steps since the one before."""
        mean = {name: float(np.mean([row[name] for row in self.recent])) for name in self.recent[-1]}
        self.curve.append({"step": self.done, "epoch": epoch, **mean})
        self.recent.clear()
        return self.curve[-1]

    def save(self) -> None:
        """Write the state; returns when every process may go on."""
        if is_first():
            self.claim.confirm()
            learner = self.learner
            TrainingState(
                fingerprint=self.fingerprint,
                step=self.done,
                model=learner.model.state_dict(),
                optimiser=learner.optimiser.state_dict(),
                curve=self.curve,
                recent=self.recent,
                snapshots=self.snapshots,
                heads=learner.heads.state_dict(),
            ).save(self.folder)
        wait_for_all()

    def take_snapshot(self, epoch: float, statistics: Mapping[str, Tensor]) -> None:
        """Keep what has been learned so far, of the plain model and of the heads, with these statistics."""
        if is_first():
            self.claim.confirm()
            learner = self.learner
            file = save_snapshot(
                learner.adapted.exported(learner.model),
                self.folder / FOLDER,
                step=self.done,
                epoch=epoch,
                learned=learner.adapted.learned(learner.model),
                statistics=statistics,
                heads=learner.heads,
            )
            self.snapshots[f"{FOLDER}/{file.name}"] = sha256(file)
