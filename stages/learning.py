"""How well the runs segment while they train: the validation curves of Figure 24."""

from regroup.metrics import SEGMENTATION
from regroup.report.learning import draw_learning, read_lines
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Draw the panels that `learning.panels` names."""
    layout, settings = stage.layout, stage.params.needed(stage.params.learning, "learning")
    curves = layout.metrics / SEGMENTATION
    with stage.tracked(settings, inputs=[curves], outputs=[layout.learning]):
        panels = {panel.title: read_lines(panel.lines, curves, settings.dataset) for panel in settings.panels}
        start = read_lines({"start": [settings.start]}, curves, settings.dataset)["start"]
        drawn = draw_learning(
            panels,
            float(start.miou[0, -1]),
            dataset=settings.dataset,
            profile=stage.params.name,
            drawn=stage.params.drawn,
        )
        drawn.save(layout.learning)


if __name__ == "__main__":
    run(main)
