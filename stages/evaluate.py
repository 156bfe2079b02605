"""What one variant scores on one task of the profile, and its validation curve."""

from regroup.backbones import load_checkpoint
from regroup.scoring.resolve import read_task
from regroup.scoring.results import write_result
from regroup.scoring.validation import VALIDATION, validation_curve, with_start, write_validation
from regroup.sources.manifest import raw_root
from regroup.stage import Stage, run
from regroup.tasks import Work, split_item
from regroup.training.snapshots import apply_snapshot, list_snapshots


def main(stage: Stage) -> None:
    """Score the variant's checkpoint, then its snapshots on less data."""
    layout, (name, variant) = stage.layout, split_item(stage.key)
    evaluation = read_task(layout.task(name))
    checkpoint, out = layout.run(variant), layout.scores(name, variant)
    raw = {source: layout.raw(source) for source in evaluation.sources}
    with stage.tracked(evaluation.options, inputs=[checkpoint, *raw.values()], outputs=[out]) as tracked:
        model = load_checkpoint(checkpoint)
        roots = {source: raw_root(folder) for source, folder in raw.items()}
        work = Work(roots, progress=True, text_cache=layout.text_cache, token_cache=layout.token_cache)
        points = list_snapshots(checkpoint)
        result = with_start(evaluation.run(model, work), model, points, apply_snapshot, evaluation, work)
        metrics = write_result(
            result, evaluation, out, variant=variant, profile=stage.params.name, checkpoint=checkpoint
        )
        tracked.log_metrics(metrics.flat(), step=0)
        if (point := evaluation.validating) is not None:
            rows = validation_curve(model, points, apply_snapshot, point, work)
            for row in rows:
                tracked.log_metrics(row, step=int(row["step"]))
            write_validation(out / VALIDATION, rows)


if __name__ == "__main__":
    run(main)
