"""What each run uses, every default filled in: a file a variant, and one for the self-supervised features."""

from regroup.resolved import borrowed_backbones, write_resolved
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Write the files whose values have changed."""
    params, layout, variants = stage.params, stage.layout, stage.variants()
    settings = (params.checkpoint, params.finetune, params.dino)
    with stage.tracked(*settings, inputs=[], outputs=[layout.variants, layout.dino_settings]):
        written = write_resolved(params, variants, layout, borrowed_backbones(params))
    print(f"{len(variants)} variants; {len(written)} files written, the others say so already")


if __name__ == "__main__":
    run(main)
