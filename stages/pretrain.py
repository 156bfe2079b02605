"""A mini checkpoint: draw the noisy `web` corpus, pretrain on it. Its output is in the repository."""

import tempfile
from pathlib import Path

from regroup.io import write_json
from regroup.sources.make import make_source
from regroup.sources.manifest import raw_root
from regroup.stage import Stage, fix_threads, run
from regroup.training.pretraining import pretrain, save_half
from regroup.training.web import WebCorpus

OUT = Path("pretrain")


def main(stage: Stage) -> None:
    """Pretrain the model that `--item` names from random weights."""
    settings, world = stage.params.pretrain[stage.key], stage.params.world
    fix_threads(settings.threads or stage.resources.threads)
    checkpoint, metrics = OUT / stage.key, OUT / f"{stage.key}.json"
    with stage.tracked(settings, world, inputs=[], outputs=[checkpoint, metrics]) as tracked:
        with tempfile.TemporaryDirectory() as folder:
            make_source("web", "mini", Path(folder, "web"), world=world)
            corpus = WebCorpus(raw_root(Path(folder, "web")))
        rows: list[dict[str, float]] = []

        def observe(step: int, row: dict[str, float]) -> None:
            rows.append(row)
            tracked.log_metrics(row, step)

        save_half(pretrain(corpus, settings, observe=observe), checkpoint)
        last = rows[-10:]
        losses = {name: round(sum(row[name] for row in last) / len(last), 3) for name in last[0]}
        steps = sum(phase.until or phase.steps for phase in settings.phases)
        write_json(metrics, {"images": len(corpus), "steps": steps, "losses_at_the_end": losses})


if __name__ == "__main__":
    run(main)
