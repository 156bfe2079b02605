"""Raw data in the real archives' own formats: drawn, or a pointer to the folder that holds it."""

from regroup.sources import make_source
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Make one source."""
    source, out = stage.params.sources[stage.key], stage.layout.raw(stage.key)  # type: ignore[index]
    with stage.tracked(source, stage.params.world, inputs=[], outputs=[out]) as tracked:
        manifest = make_source(stage.key, source.kind, out, root=source.root, world=stage.params.world)
        tracked.log_metrics({"files": manifest.files, "bytes": manifest.bytes})


if __name__ == "__main__":
    run(main)
