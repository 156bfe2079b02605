"""Nouns and noun phrases of every caption, their frequencies and the curated vocabularies."""

from regroup.captions.labels import extract_labels
from regroup.sources.manifest import raw_root
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Tag the captions of the training split."""
    raw, out = stage.layout.raw("coco"), stage.layout.captions
    with stage.tracked(stage.params.nouns, inputs=[raw], outputs=[out]) as tracked:
        report = extract_labels(raw_root(raw), out, stage.params.nouns, progress=True)
        tracked.log_metrics(report.metrics(), step=0)


if __name__ == "__main__":
    run(main)
