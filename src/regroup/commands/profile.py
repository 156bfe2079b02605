"""`regroup profile`: make a profile, or make its params.yaml again after a change."""

from __future__ import annotations

import argparse
from typing import Any

from regroup.commands.arguments import path
from regroup.profile import make_profile

EXAMPLE = """example:
  mkdir mycoco
  cat > mycoco/overrides.yaml <<'YAML'
  base: full
  sources:
    coco: {kind: local, root: /datasets/coco}
  YAML
  regroup profile mycoco
  regroup check --params mycoco/params.yaml
  dvc repro mycoco/dvc.yaml"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "profile",
        help="make or refresh a profile's params.yaml from its overrides.yaml",
        description="Lay FOLDER/overrides.yaml over the default params.yaml, check the result, and write "
        "FOLDER/params.yaml and FOLDER/dvc.yaml, which make FOLDER a profile.",
        epilog=EXAMPLE,
    )
    parser.add_argument("folder", type=path, help="the profile's folder, directly under the project's root")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    written = make_profile(arguments.folder)
    print(f"{written}: written; start it with `dvc repro {arguments.folder}/dvc.yaml`")
