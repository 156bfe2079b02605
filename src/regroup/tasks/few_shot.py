"""Few-shot classification: a linear probe on 1, 2, 4, 8 and 16 pictures a class of the source `classes`.

For each seed the pictures of a class of `train` are put in a random order that does not depend on other
classes. The first n are the shots, so fewer shots are among more; the last min(n, 4) are those that C is
chosen on. The probe (`_probe`) is trained on the shots alone and scored on the whole of `val`; a value is the
mean over seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, JsonValue

from regroup.errors import RegroupError
from regroup.metrics import DatasetScores, Metric
from regroup.settings import EachOnce, Seed
from regroup.tasks import TaskResult, Work
from regroup.tasks._class_images import DATASET, SOURCE, files, sources
from regroup.tasks._class_texts import Prompts, check_distinct
from regroup.tasks._probe import Probe, Samples, check_several, choose, order_of, predicted, solving

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from jaxtyping import Int

    from regroup.class_folders import ClassFolders
    from regroup.model import Backbone

__all__ = ["Options", "draw", "files", "run", "sources"]

MOST_VALIDATION = 4
"""Validation pictures a class at most, as in CoOp's protocol (Zhou et al. 2022)."""

Shots = Annotated[int, Field(ge=1, le=10_000)]


class Options(Prompts, Probe):
    """How many pictures a class, drawn how often."""

    shots: Annotated[tuple[Shots, ...], EachOnce] = Field(default=(1, 2, 4, 8, 16), min_length=1)
    seeds: Annotated[tuple[Seed, ...], EachOnce] = Field(default=(0, 1, 2), min_length=1)
    halvings: int = Field(
        default=1, ge=0, le=8, description="of the gap around the best C; 1: a value a decade"
    )
    chunk: int = Field(default=512, ge=1, le=1_000_000, description="rows of the similarity matrix at a time")


def run(model: Backbone, options: Options, work: Work) -> TaskResult:
    """Train and score a probe for each number of shots and each seed; score zero-shot beside them.

    Raises:
        RegroupError: as `linear_probe` and `classification`; or a class has fewer pictures than shots and
            validation ask for.
    """
    import numpy as np

    from regroup.tasks.classification import places

    train, val = options.read_both(work)
    check_several(train)
    check_distinct(val.names, val.folders, options)
    check_enough(train, options.shots, work.roots[SOURCE] / "train")
    drawn = {(n, seed): draw(train, n, seed) for n in options.shots for seed in options.seeds}
    used = np.unique(np.concatenate([rows for pair in drawn.values() for rows in pair]))
    if 2 * len(used) > len(train.paths):
        used = np.arange(len(train.paths))  # then other tasks find the features of all
    shown = options.features(model, val.paths, work)
    zero = places(model, shown, val, options, work, chunk=options.chunk) == 1
    features = options.features(model, [train.paths[k] for k in used], work)
    samples, test = Samples(features.numpy(), train.labels[used]), Samples(shown.numpy(), val.labels)
    runs = {}
    with solving(samples):
        for key, pair in drawn.items():
            shots, held = (samples.at(np.searchsorted(used, rows)) for rows in pair)
            runs[key] = _one(shots, held, test, options=options)
    return _result(val, runs, 100 * float(zero.mean()), options, options.size or model.image_size)


def check_enough(train: ClassFolders, shots: tuple[int, ...], folder: Path) -> None:
    """Refuse classes with too few pictures.

    Raises:
        RegroupError: names the folder, and the most shots that would work.
    """
    import numpy as np

    counts = np.bincount(train.labels, minlength=len(train.folders))
    most = max(shots)
    wanted = most + min(most, MOST_VALIDATION)
    fewest = int(counts.argmin())
    if (count := int(counts[fewest])) < wanted:
        possible = max(count // 2, 0) if count < 2 * MOST_VALIDATION else count - MOST_VALIDATION
        remedy = f"`shots` of at most {possible} work" if possible else "add pictures: one shot takes two"
        raise RegroupError(
            f"{folder / train.folders[fewest]}: has {count} pictures, but {most} shots and "
            f"{min(most, MOST_VALIDATION)} for validation take {wanted}; {remedy}"
        )


def draw(
    train: ClassFolders, shots: int, seed: int
) -> tuple[Int[np.ndarray, " shots"], Int[np.ndarray, " held"]]:
    """Rows of `train` to train on and to choose C on, of each class in turn."""
    import numpy as np

    counts = np.bincount(train.labels, minlength=len(train.folders))
    starts = np.cumsum(counts) - counts
    held = min(shots, MOST_VALIDATION)
    some, rest = [], []
    for folder, count, start in zip(train.folders, counts.tolist(), starts.tolist(), strict=True):
        order = start + order_of(folder, count, seed)
        some.append(order[:shots])
        rest.append(order[-held:])
    return np.concatenate(some), np.concatenate(rest)


@dataclass(frozen=True)
class _Run:
    """What one draw scored, in percent; the C of its probe; how many fits came to no end."""

    top1: float
    c: float
    validation_top1: float
    unconverged: int


def _one(*drawn: Samples, options: Options) -> _Run:
    """A probe of the shots alone: which other draws there are does not matter."""
    scaled = options.scaled(*(some.features for some in drawn))
    train, held, test = (Samples(wide, some.labels) for wide, some in zip(scaled, drawn, strict=True))
    choice = choose(train, held, options)
    right = predicted(choice.probe, test.features) == test.labels
    return _Run(100 * float(right.mean()), choice.c, choice.accuracy, choice.unconverged)


def _result(
    val: ClassFolders,
    runs: Mapping[tuple[int, int], _Run],
    zero: float,
    options: Options,
    size: int,
) -> TaskResult:
    """Mean over seeds for each number of shots; spreads, single runs and zero-shot in the details."""
    values, spread = {}, {}
    for shots in options.shots:
        found = [runs[shots, seed].top1 for seed in options.seeds]
        values[f"top1_{shots}"] = statistics.fmean(found)
        spread[f"top1_{shots}"] = statistics.stdev(found) if len(found) > 1 else None
    chance = 100 / len(val.folders)
    protocol: dict[str, JsonValue] = {
        "name": "few_shot",
        "classes": len(val.folders),
        "shots": list(options.shots),
        "seeds": list(options.seeds),
        "validation": f"min(shots, {MOST_VALIDATION}) a class, for C alone",
        "features": "of unit length" if options.normalise else "as the model gives them",
        "size": size,
        "preprocessing": "short side to `size`, bicubic; square from the centre",
    }
    details: dict[str, JsonValue] = {
        "chance": dict.fromkeys(values, chance),
        "standard_deviation": {**spread},
        "zero_shot": {"top1": zero, **options.protocol()},
        "unconverged": sum(one.unconverged for one in runs.values()),
        "runs": [{"shots": shots, "seed": seed, **asdict(one)} for (shots, seed), one in runs.items()],
    }
    scores = DatasetScores(values=values, images=len(val.paths), protocol=protocol, details=details)
    metrics = {
        f"top1_{shots}": Metric(title=f"top-1, {shots} shot{'s' * (shots > 1)}") for shots in options.shots
    }
    return TaskResult(f"top1_{max(options.shots)}", metrics, {DATASET: scores})
