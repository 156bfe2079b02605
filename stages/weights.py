"""Published weights that other stages start from; a profile of drawn data needs none."""

from regroup.sources.weights import fetch_weights
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Fetch the weights."""
    settings, out = stage.params.weights, stage.layout.weights
    with stage.tracked(settings, inputs=[], outputs=[out]) as tracked:
        paths = fetch_weights(settings, out)
        size = sum(path.stat().st_size for path in paths.values())
        tracked.log_metrics({"files": len(paths), "bytes": size}, step=0)


if __name__ == "__main__":
    run(main)
