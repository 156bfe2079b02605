"""`regroup profile`: make a profile, or a study's parameters for one, or make them again after a change."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from regroup.commands.arguments import path, text
from regroup.errors import RegroupError
from regroup.inherited import inherited_values
from regroup.profile import make_profile, make_study
from regroup.study import place_of

EXAMPLE = """example:
  mkdir mycoco
  cat > mycoco/overrides.yaml <<'YAML'
  base: full
  sources:
    coco: {kind: local, root: /datasets/coco}
  YAML
  regroup profile mycoco
  regroup check --params mycoco/params.yaml
  dvc repro mycoco/dvc.yaml

  regroup profile mycoco --study alternatives        another study, on the data and at the scale of mycoco
  dvc repro studies/alternatives/mycoco/dvc.yaml"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "profile",
        help="make or refresh a profile's params.yaml from its overrides.yaml",
        description="Lay FOLDER/overrides.yaml over the default params.yaml, check the result, and write "
        "FOLDER/params.yaml and FOLDER/dvc.yaml, which make FOLDER a profile. With --study, write those of a "
        "study in its own folder, for the profile FOLDER (without FOLDER: for the default one).",
        epilog=EXAMPLE,
    )
    parser.add_argument(
        "folder", type=path, nargs="?", help="the profile's folder, directly under the project's root"
    )
    parser.add_argument("--study", type=text, metavar="NAME", help="a folder below studies/")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    if arguments.study is not None:
        written = make_study(place_of(arguments.study, arguments.folder or Path()))
    elif arguments.folder is not None:
        written = make_profile(arguments.folder)
    else:
        raise RegroupError("name a profile's folder, or a study: --study NAME")
    for line in inherited_values(written):
        print(f"warning: {line}", file=sys.stderr)
    print(f"{written}: written; start it with `dvc repro {written.with_name('dvc.yaml')}`")
