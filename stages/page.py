"""The report as one HTML page: tables, claims, figures, curves and the pipeline itself."""

from regroup.io import write_text
from regroup.report.page.build import build_page
from regroup.report.reference import load_reference
from regroup.run_facts import write_index
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Write page.html, the same bytes for the same reports, and index.html with the facts of the run."""
    params, layout, scored = stage.params, stage.layout, stage.scored()
    shown = sorted(path for path in layout.report.iterdir() if path.is_dir())
    with stage.tracked(params.page, inputs=shown, outputs=[layout.page]):
        page = build_page(
            layout.report,
            profile=params.name,
            drawn=params.drawn,
            settings=params.page,
            params_file=params.params_file,
            titles={name: variant.title for name, variant in scored.items()},
            reference=load_reference(params.files.tables),
        )
        write_text(layout.page, page)
    write_index(params)


if __name__ == "__main__":
    run(main)
