"""The study's learning-rate schedule: linear warm-up, then cosine cycles, then the final rate."""

from __future__ import annotations

import math

from regroup.training.settings import OptimiserParams


def learning_rate(step: int, epoch_steps: int, settings: OptimiserParams) -> float:
    """The learning rate of one optimiser step (section 5.3).

    The cosine runs over `decay_epochs`, restarts `cycles` times at the full rate, and counts from the first
    step, so warm-up replaces its beginning rather than delaying it; after the last cycle the rate stays
    final.

    Args:
        step: optimiser steps done so far, from 0.
        epoch_steps: optimiser steps of one epoch.
        settings: the rates and lengths; epochs may be fractions.
    """
    warmup = settings.warmup_epochs * epoch_steps
    if step < warmup:
        rise = settings.learning_rate - settings.warmup_learning_rate
        return settings.warmup_learning_rate + rise * step / warmup
    cycle, position = divmod(step, settings.decay_epochs * epoch_steps)
    if cycle >= settings.cycles:
        return settings.final_learning_rate
    fall = settings.learning_rate - settings.final_learning_rate
    phase = math.pi * position / (settings.decay_epochs * epoch_steps)
    return settings.final_learning_rate + 0.5 * fall * (1 + math.cos(phase))
