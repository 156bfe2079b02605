"""What the captions name: the rank-frequency figure, the most frequent nouns, the suspicious ones."""

from regroup.captions.noun_report import write_noun_report
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Write the report."""
    settings, captions, out = stage.params.noun_report, stage.layout.captions, stage.layout.nouns
    with stage.tracked(settings, inputs=[captions], outputs=[out]):
        params = stage.params
        write_noun_report(captions, out, profile=params.name, drawn=params.drawn, rows=settings.rows)


if __name__ == "__main__":
    run(main)
