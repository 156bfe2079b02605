"""`regroup page`: the report as one page, with the facts of the last run."""

from __future__ import annotations

import argparse
from typing import Any

from regroup.commands.arguments import add_params
from regroup.journal.last_run import FOLDER as LAST_RUNS
from regroup.params import Params, load_params

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
    parser.add_argument(
        "--if-older", action="store_true", help="only if a run, or an edit of the pipeline, is newer than it"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    params = load_params(arguments.params)
    if not (arguments.if_older and is_newest(params)):
        from regroup.run_facts import write_index

        write_index(params)
    print(params.layout.index)


def is_newest(params: Params) -> bool:
    """Whether `index.html` is newer than all that it tells of."""
    index = params.layout.index
    if not index.is_file():
        return False
    beside = [params.params_file.with_name(name) for name in ("dvc.yaml", "dvc.lock")]
    made_from = [params.layout.page, params.params_file, params.variants_file, *beside]
    runs = (LAST_RUNS / params.name).glob("*.json")
    newest = max((path.stat().st_mtime_ns for path in (*made_from, *runs) if path.is_file()), default=0)
    return index.stat().st_mtime_ns > newest
