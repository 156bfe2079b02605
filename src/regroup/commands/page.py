"""`regroup page`: the report as one page, with the facts of the last run."""

from __future__ import annotations

import argparse
from typing import Any

from regroup.commands.arguments import add_params
from regroup.params import load_params

EXAMPLES = """examples:
  regroup page
  regroup page --params full/params.yaml"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "page",
        help="write the report's page with the facts of the last run",
        description="Write reports/NAME/index.html: the page of the stage `page`, with run times, versions, "
        "the git revision and the digests of the outputs as they are now. No stage is run.",
        epilog=EXAMPLES,
    )
    add_params(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from regroup.report.page.facts import write_index

    print(write_index(load_params(arguments.params)))
