"""The thesis's tables beside our numbers, as CSV, Markdown and LaTeX, and which of its claims hold."""

from regroup.report.claims import check_claims
from regroup.report.reference import thesis
from regroup.report.runs import profile_table, table_files
from regroup.report.scores_view import write_scores, write_summary
from regroup.report.tables import write_table
from regroup.report.what_moved import verdict_counts, write_what_moved
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Build every table of the profile from the metrics files alone."""
    layout, settings, profile = stage.layout, stage.params.tables, stage.params.name
    runs = thesis().fill(table_files(stage.params, stage.variants()))
    for row in thesis().unfilled(runs, settings.numbers):
        print(f"{stage.params.variants_file}: nothing fills {row}")
    inputs = [layout.metrics, layout.sweep, layout.dissection]
    with stage.tracked(settings, inputs=inputs, outputs=[layout.tables, layout.table_data]):
        moved = check_claims(runs, profile=profile, drawn=stage.params.drawn)
        for number in settings.numbers:
            table = profile_table(number, runs.get(number, {}), stage.params, spreads=moved.spreads)
            write_table(table, layout.tables, data=layout.table_data)
        final = stage.params.sweep.variant
        write_summary(layout.metrics, final, verdict_counts(moved), layout.tables, profile=profile)
        write_scores(
            layout.metrics,
            list(stage.params.evaluate),
            list(stage.variants()),
            layout.tables,
            profile=profile,
        )
        write_what_moved(moved, layout.tables, data=layout.table_data)


if __name__ == "__main__":
    run(main)
