"""One fine-tuning run of the study, from the pretrained checkpoint to `runs/<profile>/<variant>`."""

from regroup.model import save_checkpoint
from regroup.stage import Stage, run
from regroup.training.checkpoint import start_model
from regroup.training.curve import write_curve
from regroup.training.data import CaptionData, digest
from regroup.training.finetune import Plan, finetune, finish


def main(stage: Stage) -> None:
    """Train the variant, or copy the checkpoint when the variant trains nothing."""
    variant, layout, settings = stage.variant(), stage.layout, stage.params.finetune
    out, state = layout.run(stage.key), layout.state(stage.key)
    checkpoint = stage.params.checkpoint
    inputs = [checkpoint.path, layout.shards, layout.captions]
    with stage.tracked(variant, settings, checkpoint, inputs=inputs, outputs=[out]) as tracked:
        curve = []
        if variant.trained:
            data = CaptionData.open(layout.shards, layout.captions, variant, settings)
            plan = Plan.of(variant, settings, data.captions)
            model = start_model(checkpoint, image_size=plan.image_size)
            curve = finetune(
                model,
                data.batched(plan.batch),
                variant,
                settings,
                plan,
                state=state,
                inputs_digest=digest(checkpoint, layout.shards, layout.captions),
                observe=lambda step, row: tracked.log_metrics(row, step),
            )
        else:
            model = start_model(checkpoint)
        write_curve(layout.curves / f"{stage.key}.csv", curve)
        save_checkpoint(model, out)
        finish(state)


if __name__ == "__main__":
    run(main)
