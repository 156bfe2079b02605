"""mIoU of one variant over a grid of inference settings (Table 12)."""

from pathlib import Path

from regroup.backbones import load_checkpoint
from regroup.device import choose_device
from regroup.segmentation.sweep import sweep, write_sweep
from regroup.segmentation.sweep_figure import write_heat_maps
from regroup.segmentation.sweep_table import write_table
from regroup.sources.manifest import raw_root
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Score the variant's checkpoint at every point of the grid."""
    layout, inference = stage.layout, stage.params.segmentation
    params = stage.params.needed(stage.params.sweep, "sweep")
    checkpoint, out, profile = layout.run(params.variant), layout.sweep, stage.params.name
    datasets = inference.chosen(params.datasets, "sweep.datasets")
    raw = {dataset.source: layout.raw(dataset.source) for dataset in datasets.values()}
    with stage.tracked(params, inference, inputs=[checkpoint, *raw.values()], outputs=[out]) as tracked:
        model = load_checkpoint(checkpoint).to(choose_device(inference.device))
        roots: dict[str, Path] = {source: raw_root(folder) for source, folder in raw.items()}
        grid = params.grid
        rows = sweep(
            model,
            datasets,
            inference,
            grid,
            roots,
            batch=inference.batch,
            progress=True,
            text_cache=layout.text_cache,
        )
        write_sweep(rows, out, title=f"Inference settings, {params.variant} ({profile})")
        write_heat_maps(rows, out, profile=profile, drawn=stage.params.drawn)
        write_table(rows, grid, out, variant=params.variant, profile=profile, checkpoint=checkpoint)
        tracked.log_metrics({f"best/{row.dataset}": row.miou for row in rows}, step=0)


if __name__ == "__main__":
    run(main)
