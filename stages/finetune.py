"""One fine-tuning run of the study, from the pretrained checkpoint to `runs/<profile>/<variant>`."""

from contextlib import nullcontext
from pathlib import Path

from regroup.captions.index import INDEX
from regroup.captions.table import LABELS
from regroup.heads import build_heads, save_heads
from regroup.model import save_checkpoint
from regroup.model.dino import load_features
from regroup.resolved import read_run
from regroup.stage import Stage, fix_threads, run, use_deterministic_algorithms
from regroup.training.checkpoint import start_model
from regroup.training.curve import write_curve
from regroup.training.data import CaptionData, inputs_digest
from regroup.training.finetune import finetune
from regroup.training.parallel import is_first, is_leader, joined, launched, start
from regroup.training.snapshots import FOLDER, move_snapshots
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
    """Train the variant, or copy the checkpoint when the variant trains nothing."""
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
    with (
        joined(settings.device) as device,
        stage.tracked(
            stage.variant(), settings, checkpoint, inputs=inputs, outputs=[out, curve_file]
        ) as tracked,
    ):
        if not variant.trained:
            save_checkpoint(start_model(checkpoint), out)
            write_curve(curve_file, [])
            return
        data, plan = CaptionData.open(
            layout.captions, layout.shards, variant, settings, mapped=layout.mapped_labels
        )
        if is_first():
            print(f"{stage.key}: {plan}")
        dino = load_features(layout.dino).to(device) if variant.reads_dino else None
        model = start_model(checkpoint, variant=variant, image_size=plan.image_size, dino=dino)
        heads = build_heads(model.config, variant.heads, seed=variant.seed)
        curve = finetune(
            model,
            data,
            variant,
            settings,
            plan,
            state=state,
            inputs_digest=inputs_digest(*started_from),
            claim=claim,
            device=device,
            dino=dino,
            heads=heads,
            observe=lambda step, row: tracked.log_metrics(row, step),
        )
        if is_first() or data.report.broken:
            print(data.report)
        if is_first():
            claim.confirm()
            save_checkpoint(model, out)
            save_heads(heads, variant.heads, out)
            move_snapshots(state / FOLDER, out)
            write_curve(curve_file, curve)
            forget(state)


if __name__ == "__main__":
    run(main)
