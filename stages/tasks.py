"""What each evaluation uses: its options with every default filled in, its code, its raw data."""

from regroup.scoring.resolve import write_tasks
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Write the files whose content has changed."""
    layout, evaluations = stage.layout, stage.params.evaluate
    options = [one.options for one in evaluations.values()]
    manifests = {layout.manifest(source) for one in evaluations.values() for source in one.sources}
    with stage.tracked(*options, inputs=sorted(manifests), outputs=[layout.tasks]):
        written = write_tasks(evaluations, layout.manifest, layout.tasks)
    print(f"{len(evaluations)} evaluations; {len(written)} files written, the others say so already")


if __name__ == "__main__":
    run(main)
