"""`python -m regroup.tracking`: journals to MLflow (`publish`), is all there (`check`), look at it (`ui`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from regroup.commands.arguments import Parser, add_params, path, real, text, whole
from regroup.errors import RegroupError, readable_errors
from regroup.journal.location import check_uri, tracking_uri
from regroup.tracking.check import check
from regroup.tracking.publish import publish
from regroup.tracking.store import QUIET, experiments
from regroup.tracking.view import view_address

PROGRAM = "python -m regroup.tracking"

EXAMPLES = """examples:
  python -m regroup.tracking publish
  python -m regroup.tracking ui --port 5001
  python -m regroup.tracking check --params full/params.yaml"""


def main() -> None:
    """Parse the command line and run it."""
    with readable_errors(PROGRAM):
        status = _run()
    raise SystemExit(status)


def _run() -> int:
    parser = Parser(prog=PROGRAM, description=__doc__, epilog=EXAMPLES)
    commands = parser.add_subparsers(dest="command", required=True)
    writer = commands.add_parser("publish", help="write finished and running stages to MLflow")
    writer.add_argument("--no-wait", action="store_true", help="leave it to a process that is already at it")
    viewer = commands.add_parser("ui", help="publish, then serve MLflow's pages on this machine")
    viewer.add_argument(
        "--uri", type=text, help="a store other than MLFLOW_TRACKING_URI or mlflow.db at the root"
    )
    viewer.add_argument("--port", type=whole(1, 65_535), default=5000, help="(5000)")
    checker = commands.add_parser("check", help="find every output of dvc.lock in MLflow by its digest")
    add_params(checker)
    for command in (writer, viewer, checker):
        command.add_argument("--root", type=path, default=Path(), help="root of the project")
    arguments = parser.parse_args()
    root = real(arguments.root)
    if not root.is_dir():
        raise RegroupError(f"--root {arguments.root}: no such folder")
    if arguments.command == "publish":
        publish(root, wait=not arguments.no_wait)
    elif arguments.command == "check":
        return check(root, arguments.params)
    else:
        publish(root)
        _serve(root, _store(root, arguments.uri), arguments.port)
    return 0


def _store(root: Path, given: str | None) -> str:
    if given is None:
        return tracking_uri(root, None)
    # named on the command line, it comes before MLFLOW_TRACKING_URI
    prefix, found, path = check_uri(given).partition(":///")
    return f"{prefix}:///{root / path}" if found and prefix.startswith("sqlite") else given


def _serve(root: Path, uri: str, port: int) -> None:
    if uri.startswith("http"):
        print(f"The runs are at {uri}")
        return
    os.environ.update(QUIET)
    try:
        known = experiments(uri)
    except Exception as error:  # whatever a database comes up with
        raise RegroupError(f"MLflow's store {uri}: {type(error).__name__}: {error}") from None
    for name, number in known.items():
        print(f"The last run of every stage of {name}: {view_address(port, number)}", flush=True)
    os.chdir(root)  # artefacts of a database in the project are relative to it
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [*command, "--workers", "1", "--backend-store-uri", uri])


if __name__ == "__main__":
    main()
