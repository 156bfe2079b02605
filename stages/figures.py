"""The qualitative figure: images, their ground truth, and what the variants see in them."""

from regroup.analysis.panels import panel_data, qualitative_panel
from regroup.analysis.qualitative import qualitative_samples
from regroup.errors import RegroupError
from regroup.model import load_checkpoint
from regroup.report.figures import save_figure
from regroup.sources.manifest import raw_root
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Draw the panel of every dataset named in `figures.datasets`."""
    layout, settings, params = stage.layout, stage.params.figures, stage.params.evaluate
    variants = stage.variants()
    if unknown := [name for name in settings.variants if name not in variants]:
        raise RegroupError(
            f"figures.variants: no variant {', '.join(unknown)} in {stage.params.variants_file}"
        )
    checkpoints = [layout.run(name) for name in settings.variants]
    raw = {name: layout.raw(params.datasets[name].source) for name in settings.datasets}
    with stage.tracked(settings, inputs=[*checkpoints, *raw.values()], outputs=[layout.figures]):
        models = {
            name: load_checkpoint(path) for name, path in zip(settings.variants, checkpoints, strict=True)
        }
        samples = [
            sample
            for name, folder in raw.items()
            for sample in qualitative_samples(models, params, name, raw_root(folder), images=settings.images)
        ]
        figure = qualitative_panel(samples, title="What the checkpoints see", profile=stage.params.name)
        save_figure(figure, layout.figures / "qualitative", panel_data(samples))


if __name__ == "__main__":
    run(main)
