"""The thesis's tables beside our numbers, as CSV, Markdown and LaTeX."""

from collections import defaultdict
from pathlib import Path

from regroup.report.tables import build_table, write_table
from regroup.stage import Stage, run


def main(stage: Stage) -> None:
    """Build every table of the profile from the metrics files alone."""
    layout = stage.layout
    filled: dict[int, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for name, variant in stage.variants().items():
        for row in variant.rows:
            filled[row.table][row.row].append(layout.metrics / f"{name}.json")
    with stage.tracked(stage.params.tables, inputs=[layout.metrics], outputs=[layout.tables]):
        for number in stage.params.tables.numbers:
            write_table(build_table(number, filled[number], profile=stage.params.name), layout.tables)


if __name__ == "__main__":
    run(main)
