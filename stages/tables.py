"""The study's tables with our numbers, as CSV, Markdown, LaTeX and figures, and which of its claims hold."""

from regroup.profile_tables import printed_numbers, profile_table, table_files
from regroup.report.checked import check_claims
from regroup.report.claims import load_claims
from regroup.report.reference import load_reference
from regroup.report.scores_view import write_scores, write_summary
from regroup.report.table_figure import write_table_figure
from regroup.report.table_view import write_table
from regroup.report.what_moved import verdict_counts, write_what_moved
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Build every table of the profile from the metrics files alone."""
    layout, params, profile, study = stage.layout, stage.params, stage.params.name, stage.params.files
    reference, scored = load_reference(study.tables), stage.scored()
    claims = load_claims(study.claims, reference=reference)
    runs = reference.fill(table_files(params, scored, reference))
    numbers = printed_numbers(params, reference)
    for row in reference.unfilled(runs, numbers):
        print(f"{study.variants}: nothing fills {row}")
    read = (layout.metrics, layout.sweep, layout.dissection, layout.measures)
    inputs = [folder for folder in read if folder.is_dir()]
    with stage.tracked(params.tables, inputs=inputs, outputs=[layout.tables, layout.table_data]):
        moved = check_claims(
            runs,
            profile=profile,
            drawn=params.drawn,
            claims=claims,
            reference=reference,
            measures=layout.measures,
        )
        for number in numbers:
            table = profile_table(
                number, runs.get(number, {}), params, reference=reference, spreads=moved.spreads
            )
            write_table(table, layout.tables, data=layout.table_data)
            if (how := reference.table(number).figure) is not None:
                write_table_figure(table, how, layout.table_data)
        final = params.sweep.variant if params.sweep else params.tracking.final_model
        write_summary(layout.metrics, final, verdict_counts(moved), layout.tables, profile=profile)
        write_scores(
            layout.metrics,
            list(params.evaluate),
            list(scored),
            layout.tables,
            profile=profile,
            data=layout.table_data,
        )
        if moved.results:
            write_what_moved(moved, layout.tables, data=layout.table_data)


if __name__ == "__main__":
    run(main)
