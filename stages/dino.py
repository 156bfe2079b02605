"""Self-supervised patch features: DINO's published weights, or a stand-in trained on the profile's images."""

from regroup.dino.make import make_features
from regroup.model.dino import save_features
from regroup.resolved import read_dino
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Make the features and write them to `data/<profile>/dino`."""
    resolved, shards, out = read_dino(stage.layout.dino_settings), stage.layout.shards, stage.layout.dino
    params, view = resolved.dino, resolved.view
    with stage.tracked(params, inputs=[params.path, shards], outputs=[out]) as tracked:
        features = make_features(
            params, shards, view=view, observe=lambda step, row: tracked.log_metrics(row, step)
        )
        save_features(features, out)
        config = features.config
        print(f"{out}: keys of block {config.layer}, {config.kind}, {config.width} channels")


if __name__ == "__main__":
    run(main)
