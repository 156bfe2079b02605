"""`regroup summary`: what a run found, and where to look further."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regroup.commands.arguments import add_params, check_distinct, whole
from regroup.errors import RegroupError
from regroup.params import load_params
from regroup.profile_tables import profile_table, table_files
from regroup.report.claims import check_claims
from regroup.report.reference import thesis
from regroup.report.summary import format_summary
from regroup.report.tables import Table
from regroup.report.what_moved import format_what_moved, verdict_counts
from regroup.variants import load_variants

MAIN_TABLE = 11
"""The study's final comparison."""

EXAMPLES = """examples:
  regroup summary
  regroup summary --params full/params.yaml --table 5 --table 11 --claims"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "summary",
        help="print a profile's tables and where to look further",
        description="Print tables of the thesis with a profile's scores beside its values, from the metrics "
        "files that are there, and where the report is. Nothing is run or written.",
        epilog=EXAMPLES,
    )
    add_params(parser)
    parser.add_argument(
        "--table",
        type=whole(1, 1000),
        action="append",
        metavar="N",
        help="a table to print; may be given again (default: 11, or the first that the profile builds)",
    )
    parser.add_argument("--claims", action="store_true", help="print the thesis's claims, checked, as well")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    params = load_params(arguments.params)
    check_distinct(arguments.table or (), "--table")
    for number in arguments.table or ():
        thesis().table(number)  # a table that the thesis does not have is an error before all others
    layout = params.layout
    runs = list(table_files(params, load_variants(Path(params.variants_file), check_objectives=False)))
    if not any(path.is_file() for _, _, path in runs):
        raise RegroupError(
            f"{layout.metrics}: no scores yet; run `make repro`, or `dvc repro` for another profile"
        )
    filled = thesis().fill(runs)
    built = params.tables.numbers
    numbers = arguments.table or ([MAIN_TABLE] if MAIN_TABLE in built or not built else [built[0]])
    moved = check_claims(filled, profile=params.name, drawn=params.drawn)

    def built_table(number: int) -> Table:
        return profile_table(number, filled.get(number, {}), params, spreads=moved.spreads)

    if arguments.claims:
        print(format_what_moved(moved))
    print(
        format_summary(
            [built_table(number) for number in numbers],
            every=[built_table(number) for number in built],
            verdicts=verdict_counts(moved),
            tables=layout.tables,
            figures=sorted(layout.report.glob("*/**/*.png")),
            page=layout.index if layout.index.is_file() else None,
        ),
        end="",
    )
