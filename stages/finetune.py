"""The fine-tuning runs of one variant, from the pretrained checkpoint to `runs/<profile>/<variant>`."""

import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

from regroup.captions.index import INDEX
from regroup.captions.table import LABELS
from regroup.model import save_checkpoint
from regroup.model.dino import load_features
from regroup.resolved import read_run
from regroup.seeds import of_seed
from regroup.stage import Stage, fix_threads, run, use_deterministic_algorithms
from regroup.training.checkpoint import start_model
from regroup.training.curve import write_curve
from regroup.training.data import CaptionData, inputs_digest
from regroup.training.parallel import is_first, is_leader, joined, launched, start
from regroup.training.seeds import finetune_seeds, write_runs
from regroup.training.state import Claim, claimed, forget


def main(stage: Stage) -> None:
    """Train the variant, in as many processes as the profile asks for."""
    stage.variant()  # a misspelt name is an error of this process, not of its children
    resolved = read_run(stage.layout.resolved(stage.key))
    processes = resolved.finetune.processes or max(1, stage.resources.gpus)
    state = stage.layout.state(stage.key)
    # of several processes, the first claims the run for all
    with claimed(state) if is_leader() else nullcontext(Claim()) as claim:
        if processes > 1 and not launched() and resolved.variant.trained:
            start(train, processes, stage, claim)
        else:
            train(stage, claim)


def train(stage: Stage, claim: Claim) -> None:
    """Train the variant with each seed, or copy the checkpoint when the variant trains nothing."""
    layout = stage.layout
    resolved = read_run(layout.resolved(stage.key))
    variant, settings, checkpoint = resolved.variant, resolved.finetune, resolved.checkpoint
    fix_threads(stage.resources.threads)
    use_deterministic_algorithms(settings.deterministic)
    out, state = layout.run(stage.key), layout.state(stage.key)
    curve_file = layout.curves / f"{stage.key}.csv"
    inputs = [
        layout.resolved(stage.key),
        checkpoint.path,
        layout.shards,
        layout.captions,
        layout.dino,
    ]
    # the script is code like the packages; the index holds the digest of every shard
    started_from = [
        Path(__file__),
        checkpoint.path,
        layout.shards / INDEX,
        layout.captions / LABELS,
        layout.dino,
    ]
    told = stage.variant().model_copy(update={"seeds": variant.seeds})
    with (
        joined(settings.device) as device,
        stage.tracked(told, settings, checkpoint, inputs=inputs, outputs=[out, curve_file]) as tracked,
    ):
        if not variant.trained:
            shutil.rmtree(out, ignore_errors=True)  # as DVC does: it may have seeds
            save_checkpoint(start_model(checkpoint), out)
            write_curve(curve_file, {})
            return
        data, plan = CaptionData.open(
            layout.captions, layout.shards, variant, settings, mapped=layout.mapped_labels
        )
        if is_first():
            seeds = f"; seeds {', '.join(map(str, variant.seeds))}" if len(variant.seeds) > 1 else ""
            print(f"{stage.key}: {plan}{seeds}")

        def observe(seed: int, step: int, row: Mapping[str, float]) -> None:
            tracked.log_metrics(of_seed(row, variant.seeds, seed), step)

        runs = finetune_seeds(
            data,
            variant,
            settings,
            checkpoint,
            plan,
            state=state,
            inputs_digest=inputs_digest(*started_from),
            claim=claim,
            device=device,
            dino=load_features(layout.dino).to(device) if variant.reads_dino else None,
            observe=observe,
        )
        if is_first() or data.report.broken:
            print(data.report)
        if is_first():
            claim.confirm()
            write_runs(runs, out)
            write_curve(curve_file, {one.seed: one.curve for one in runs})
            forget(state)


if __name__ == "__main__":
    run(main)
