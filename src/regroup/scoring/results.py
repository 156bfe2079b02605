"""What a task found, written down."""

from __future__ import annotations

from pathlib import Path

from regroup.io import sha256, write_bytes
from regroup.metrics import METRICS, Metrics, weights_of, write_metrics
from regroup.model.weights import find_weights
from regroup.settings import parse
from regroup.tasks import Evaluation, TaskResult


def write_result(
    result: TaskResult,
    evaluation: Evaluation,
    folder: Path,
    *,
    variant: str,
    profile: str,
    checkpoint: Path,
    seed: int | None = None,
) -> Metrics:
    """Write `metrics.json` and the task's own files; return what the first says.

    Args:
        result: what the checkpoint scored.
        evaluation: on what.
        folder: where to.
        variant: name of the checkpoint.
        profile: name of the profile.
        checkpoint: the weights, whose digest is written.
        seed: of the run; None where nothing was trained.

    Raises:
        RegroupError: values of metrics that the result does not have, or that are none of their units;
            nothing is written then.
    """
    values = {
        "profile": profile,
        "variant": variant,
        "task": evaluation.name,
        "checkpoint": weights_of(sha256(find_weights(checkpoint))),
        "seed": seed,
        "main": result.main,
        "metrics": dict(result.metrics),
        "datasets": dict(result.datasets),
        "settings": {"task": evaluation.task, **evaluation.options.model_dump(mode="json")},
    }
    metrics = parse(Metrics, values, evaluation.file)
    for name, content in result.files.items():
        write_bytes(folder / name, content)
    write_metrics(folder / METRICS, metrics)
    return metrics
