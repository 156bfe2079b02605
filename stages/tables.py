"""The thesis's tables beside our numbers, as CSV, Markdown and LaTeX, and which of its claims hold."""

from regroup.report.claims import check_claims
from regroup.report.reference import thesis
from regroup.report.runs import profile_table, table_files
from regroup.report.tables import write_table
from regroup.report.what_moved import write_what_moved
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Build every table of the profile from the metrics files alone."""
    layout, settings, profile = stage.layout, stage.params.tables, stage.params.name
    runs = thesis().fill(table_files(stage.params, stage.variants()))
    inputs = [layout.metrics, layout.sweep, layout.dissection]
    with stage.tracked(settings, inputs=inputs, outputs=[layout.tables]):
        for number in settings.numbers:
            write_table(profile_table(number, runs.get(number, {}), stage.params), layout.tables)
        write_what_moved(check_claims(runs, profile=profile), layout.tables)


if __name__ == "__main__":
    run(main)
