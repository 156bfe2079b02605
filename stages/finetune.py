"""One fine-tuning run of the study, from the pretrained checkpoint to `runs/<profile>/<variant>`."""

from regroup.model import save_checkpoint
from regroup.stage import Stage, run
from regroup.training.checkpoint import start_model
from regroup.training.curve import write_curve
from regroup.training.data import CaptionData, inputs_digest
from regroup.training.finetune import finetune
from regroup.training.state import forget


def main(stage: Stage) -> None:
    """Train the variant, or copy the checkpoint when the variant trains nothing."""
    variant, layout, settings = stage.variant(), stage.layout, stage.params.finetune
    out, state = layout.run(stage.key), layout.state(stage.key)
    curve_file = layout.curves / f"{stage.key}.csv"
    checkpoint = stage.params.checkpoint
    inputs = [checkpoint.path, layout.shards, layout.captions]
    with stage.tracked(variant, settings, checkpoint, inputs=inputs, outputs=[out, curve_file]) as tracked:
        if variant.trained:
            data, plan = CaptionData.open(layout.captions, layout.shards, variant, settings)
            model = start_model(checkpoint, image_size=plan.image_size)
            curve = finetune(
                model,
                data,
                variant,
                settings,
                plan,
                state=state,
                inputs_digest=inputs_digest(*inputs),
                observe=lambda step, row: tracked.log_metrics(row, step),
            )
            print(data.report)
        else:
            model, curve = start_model(checkpoint), []
        save_checkpoint(model, out)
        write_curve(curve_file, curve)
        forget(state)


if __name__ == "__main__":
    run(main)
