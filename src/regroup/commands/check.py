"""`regroup check`: whether a study fits together, before anything is run."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from regroup.checks import check_study
from regroup.commands.arguments import add_params
from regroup.inherited import inherited_values

EXAMPLES = """examples:
  regroup check
  regroup check --params full/params.yaml"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        help="check a profile's parameters, variants and tables against each other",
        description="Check that every key, part, objective, vocabulary and table row that a study names "
        "exists and every number is in its range, that DVC and Snakemake can address every name, that "
        "batches and image sizes fit, that every row of its tables has a run, and that no two runs are the "
        "same. Runs nothing; exit status 2 with one line a fault. Of a profile on real data it also says, as "
        "warnings, which values of the default profile it has without saying so (full/why.yaml).",
        epilog=EXAMPLES,
    )
    add_params(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    study = check_study(arguments.params)
    for line in inherited_values(arguments.params):
        print(f"warning: {line}", file=sys.stderr)
    print(study)
