"""mIoU of one variant on every dataset of the profile, and its validation curve."""

from pathlib import Path

from regroup.backbones import load_checkpoint
from regroup.segmentation.evaluation import evaluate_all
from regroup.segmentation.validation import validation_curve, write_validation
from regroup.sources.manifest import raw_root
from regroup.stage import Stage, run
from regroup.training.snapshots import apply_snapshot, list_snapshots


def main(stage: Stage) -> None:
    """Score the variant's checkpoint, then its snapshots on fewer images."""
    layout, settings = stage.layout, stage.params.evaluate
    checkpoint, out = layout.run(stage.key), layout.metrics / f"{stage.key}.json"
    raw: dict[str, Path] = {
        dataset.source: layout.raw(dataset.source) for dataset in settings.datasets.values()
    }
    per_class, readable = out.with_suffix(".parquet"), out.with_suffix(".csv")
    curve_file = layout.validation / f"{stage.key}.csv"
    outputs = [out, per_class, readable, curve_file, curve_file.with_suffix(".parquet")]
    with stage.tracked(settings, inputs=[checkpoint, *raw.values()], outputs=outputs) as tracked:
        model = load_checkpoint(checkpoint)
        roots = {source: raw_root(folder) for source, folder in raw.items()}
        scores = evaluate_all(
            model,
            settings,
            roots,
            progress=True,
            text_cache=layout.text_cache,
            token_cache=layout.token_cache if settings.reuse_stage_one else None,
        )
        scores.write(out, per_class, variant=stage.key, profile=stage.params.name, checkpoint=checkpoint)
        tracked.log_metrics(scores.metrics(), step=0)
        rows = validation_curve(
            model, list_snapshots(checkpoint), apply_snapshot, settings.validating(), roots, progress=True
        )
        for row in rows:
            tracked.log_metrics(row, step=int(row["step"]))
        write_validation(curve_file, rows)


if __name__ == "__main__":
    run(main)
