"""What the runs of one variant score on one task of the profile, and their validation curves."""

import shutil
from dataclasses import replace

from regroup.backbones import load_checkpoint
from regroup.scoring.resolve import read_task
from regroup.scoring.results import write_result
from regroup.scoring.validation import VALIDATION, validation_curve, with_start, write_validation
from regroup.seeds import of_seed, read_seeds, seed_folder
from regroup.sources.manifest import raw_root
from regroup.stage import Stage, run
from regroup.tasks import Work, split_item
from regroup.training.snapshots import apply_snapshot, list_snapshots


def main(stage: Stage) -> None:
    """Score the checkpoint of each seed, then its snapshots on less data."""
    layout, (name, variant) = stage.layout, split_item(stage.key)
    evaluation = read_task(layout.task(name))
    found, out = layout.run(variant), layout.scores(name, variant)
    raw = {source: layout.raw(source) for source in evaluation.sources}
    with stage.tracked(evaluation.options, inputs=[found, *raw.values()], outputs=[out]) as tracked:
        roots = {source: raw_root(folder) for source, folder in raw.items()}
        work = Work(
            roots,
            progress=True,
            text_cache=layout.text_cache,
            token_cache=layout.token_cache,
            features=layout.features,
        )
        runs = read_seeds(found)
        seeds = list(runs)
        shutil.rmtree(out, ignore_errors=True)  # as DVC does: it may have seeds that are no more
        for seed, checkpoint in runs.items():
            model, folder = load_checkpoint(checkpoint), seed_folder(out, seeds, seed)
            points = list_snapshots(checkpoint)
            trained = seed is not None or bool(points)  # else what it has seen is not known here
            work = replace(work, trained_on=layout.shards if trained else None)
            result = with_start(evaluation.run(model, work), model, points, apply_snapshot, evaluation, work)
            metrics = write_result(
                result,
                evaluation,
                folder,
                variant=variant,
                profile=stage.params.name,
                checkpoint=checkpoint,
                seed=seed,
            )
            tracked.log_metrics(of_seed(metrics.flat(), seeds, seed), step=0)
            if (point := evaluation.validating) is not None:
                rows = validation_curve(model, points, apply_snapshot, point, work)
                for row in rows:
                    tracked.log_metrics(of_seed(row, seeds, seed), step=int(row["step"]))
                write_validation(folder / VALIDATION, rows)


if __name__ == "__main__":
    run(main)
