"""`regroup summary`: what a run found, and where to look further."""

from __future__ import annotations

import argparse
from typing import Any

from regroup.commands.arguments import add_params, check_distinct, whole
from regroup.errors import RegroupError
from regroup.params import load_params
from regroup.profile_tables import main_table, printed_numbers, profile_table, table_files
from regroup.report.checked import check_claims
from regroup.report.claims import load_claims
from regroup.report.reference import load_reference
from regroup.report.summary import format_summary
from regroup.report.tables import Table
from regroup.report.what_moved import format_what_moved, verdict_counts
from regroup.variants_file import load_scored

EXAMPLES = """examples:
  regroup summary
  regroup summary --params full/params.yaml --table 5 --table 11 --claims"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "summary",
        help="print a profile's tables and where to look further",
        description="Print tables of a study with a profile's scores, beside what is published where that is "
        "known, from the metrics files that are there, and where the report is. Nothing is run or written.",
        epilog=EXAMPLES,
    )
    add_params(parser)
    parser.add_argument(
        "--table",
        type=whole(1, 1000),
        action="append",
        metavar="N",
        help="a table to print; may be given again (default: the study's main one, or the first)",
    )
    parser.add_argument("--claims", action="store_true", help="print the study's claims, checked, as well")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    params = load_params(arguments.params)
    check_distinct(arguments.table or (), "--table")
    reference = load_reference(params.files.tables)
    for number in arguments.table or ():
        reference.table(number)  # a table that the study does not have is an error before all others
    layout = params.layout
    scored = load_scored(params.variants_file, params.data)
    runs = list(table_files(params, scored, reference))
    if not any(path.is_file() for _, _, path in runs):
        raise RegroupError(
            f"{layout.metrics}: no scores yet; run `make repro`, or `dvc repro` for another profile"
        )
    filled = reference.fill(runs)
    built = printed_numbers(params, reference)
    numbers = arguments.table or [main_table(params, reference)]
    claims = load_claims(params.files.claims, reference=reference)
    moved = check_claims(
        filled,
        profile=params.name,
        drawn=params.drawn,
        claims=claims,
        reference=reference,
        measures=layout.measures,
    )

    def built_table(number: int) -> Table:
        return profile_table(
            number, filled.get(number, {}), params, reference=reference, spreads=moved.spreads
        )

    if arguments.claims and moved.results:
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
