"""How the variants group and label, in pictures and class by class: the figures of chapters 4 and 5."""

from regroup.analysis.gallery import Gallery
from regroup.analysis.measures import write_measures
from regroup.backbones import load_checkpoint
from regroup.errors import RegroupError
from regroup.io import write_bytes
from regroup.metrics import SEGMENTATION
from regroup.model.dino import load_features
from regroup.sources.manifest import raw_root
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Draw every figure of the profile."""
    layout, params = stage.layout, stage.params.segmentation
    settings = stage.params.needed(stage.params.figures, "figures")
    dissect = stage.params.needed(stage.params.dissect, "dissect")
    known = stage.variants()
    if unknown := [name for name in settings.variants if name not in known]:
        raise RegroupError(f"figures: no variant {', '.join(unknown)} in {stage.params.variants_file}")
    sources = [one.source for one in params.chosen(settings.every_dataset, "figures").values()]
    checkpoints = {name: layout.run(name) for name in settings.variants}
    raw = {source: layout.raw(source) for source in dict.fromkeys(sources)}
    inputs = [*checkpoints.values(), *raw.values(), layout.dino]
    outputs = [layout.figures, layout.measures, layout.cover]
    with stage.tracked(settings, dissect, params, inputs=inputs, outputs=outputs):
        gallery = Gallery(
            models={name: load_checkpoint(path).eval() for name, path in checkpoints.items()},
            figures=settings,
            dissect=dissect,
            evaluate=params,
            roots={source: raw_root(folder) for source, folder in raw.items()},
            metrics=layout.metrics / SEGMENTATION,
            dino=load_features(layout.dino).eval(),
            profile=stage.params.name,
            drawn=stage.params.drawn,
        )
        for drawn in gallery.draw():
            drawn.save(layout.figures)
        write_measures(gallery, layout.measures)
        # the one picture that is in git, for the README
        write_bytes(layout.cover, (layout.figures / layout.cover.name).read_bytes())


if __name__ == "__main__":
    run(main)
