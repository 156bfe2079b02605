"""Caption shards: COCO's training images and captions as WebDataset tars with an index, or where they are."""

from regroup.captions.shards import build_shards
from regroup.captions.store import point_at
from regroup.sources.manifest import raw_root
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Build every shard of the training split, or say where they are."""
    raw, out = stage.layout.raw("coco"), stage.layout.shards
    if (url := stage.params.shards.url) is not None:
        with stage.tracked(stage.params.shards, inputs=[], outputs=[out]) as tracked:
            tracked.log_metrics({"images": float(len(point_at(url, out)))}, step=0)
        return
    with stage.tracked(stage.params.shards, inputs=[raw], outputs=[out]) as tracked:
        report = build_shards(raw_root(raw), out, stage.params.shards, progress=True)
        tracked.log_metrics(report.metrics(), step=0)


if __name__ == "__main__":
    run(main)
