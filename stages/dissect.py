"""Grouping and alignment of one variant, each on its own (Tables 1 and 2)."""

from regroup.analysis.dissection import dissect
from regroup.analysis.dissection_report import by_analysis, write_dissection
from regroup.backbones import load_checkpoint
from regroup.device import choose_device
from regroup.sources.manifest import raw_root
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Dissect the variant's checkpoint."""
    layout, inference = stage.layout, stage.params.segmentation
    params = stage.params.needed(stage.params.dissect, "dissect")
    checkpoint, out = layout.run(stage.key), layout.dissection / stage.key
    datasets = inference.chosen(params.datasets, "dissect.datasets")
    raw = {dataset.source: layout.raw(dataset.source) for dataset in datasets.values()}
    with stage.tracked(params, inference, inputs=[checkpoint, *raw.values()], outputs=[out]) as tracked:
        model = load_checkpoint(checkpoint).to(choose_device(inference.device))
        scores = by_analysis(
            {
                name: dissect(
                    model,
                    dataset,
                    inference,
                    params,
                    raw_root(raw[dataset.source]),
                    batch=inference.batch,
                    progress=True,
                )
                for name, dataset in datasets.items()
            }
        )
        write_dissection(
            scores,
            out,
            variant=stage.key,
            profile=stage.params.name,
            drawn=stage.params.drawn,
            checkpoint=checkpoint,
        )
        tracked.log_metrics(
            {
                f"{name}/{analysis}": one.miou
                for analysis, some in scores.items()
                for name, one in some.items()
            },
            step=0,
        )


if __name__ == "__main__":
    run(main)
