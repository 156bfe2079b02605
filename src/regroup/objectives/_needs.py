"""What an objective may ask for beyond the features that every run has; nothing here imports torch."""

from __future__ import annotations

from enum import StrEnum


class Need(StrEnum):
    """One thing that a trainer computes for a batch only where an objective of the run reads it.

    What each holds, the property of `ObjectiveInputs` that is called like it says. The trainer has a provider
    for every one of them (`regroup.training.providers`).
    """

    LABELS = "labels"
    SEGMENTS = "segments"
    ATTENTION = "attention"
    PATCHES = "patches"
    DINO = "dino"
    TOKENS = "tokens"
    CAPTIONS = "captions"
    VIEW = "view"
    TEACHER = "teacher"
