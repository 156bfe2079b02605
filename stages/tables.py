"""The thesis's tables beside our numbers, as CSV, Markdown and LaTeX, and which of its claims hold."""

from regroup.report.claims import check_claims
from regroup.report.reference import thesis
from regroup.report.scores_view import write_scores
from regroup.report.tables import build_table, write_table
from regroup.report.what_moved import write_what_moved
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Build every table of the profile from the metrics files alone."""
    layout, settings, profile = stage.layout, stage.params.tables, stage.params.name
    runs = thesis().fill(
        (row.table, row.row, layout.metrics / f"{name}.json")
        for name, variant in stage.variants().items()
        for row in variant.rows
    )
    for row in thesis().unfilled(runs, settings.numbers):
        print(f"{stage.params.variants_file}: nothing fills {row}")
    with stage.tracked(settings, inputs=[layout.metrics], outputs=[layout.tables]):
        moved = check_claims(runs, profile=profile)
        for number in settings.numbers:
            table = build_table(number, runs.get(number, {}), profile=profile, spreads=moved.spreads)
            write_table(table, layout.tables)
        write_scores(layout.metrics, list(stage.variants()), layout.tables, profile=profile)
        write_what_moved(moved, layout.tables)


if __name__ == "__main__":
    run(main)
