"""`regroup doctor`: whether this machine has what a profile needs."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regroup.commands.arguments import path
from regroup.doctor import Finding, examine
from regroup.errors import RegroupError
from regroup.params import Params, load_params
from regroup.profile import follow_profile
from regroup.seeds import all_seeds
from regroup.variants_file import load_variants

EXAMPLES = """examples:
  regroup doctor                   the embedded data
  regroup doctor --profile full    real data: what is here, what will be downloaded, what disk it takes"""

_MARKS = {"ok": "ok", "to get": "to get", "note": "note", "missing": "MISSING"}


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        help="say what a profile needs and what is missing, before anything starts",
        description="Look at tools, graphics cards, data, weights and disks. Nothing is fetched or written."
        " The exit status is 1 if a run cannot start.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "--profile",
        type=path,
        default=Path(),
        metavar="FOLDER",
        help="the profile's folder (the default profile is this folder's own)",
    )
    parser.set_defaults(run=_run)


def _runs(params: Params) -> int:
    variants = load_variants(params.variants_file).values()
    return sum(len(all_seeds(one.seeds, params.finetune.seeds)) if one.trained else 1 for one in variants)


def _run(arguments: argparse.Namespace) -> int:
    follow_profile(arguments.profile / "params.yaml")
    if not (arguments.profile / "params.yaml").is_file():
        here = ", ".join(str(one.parent) for one in sorted(Path().glob("*/params.yaml")))
        raise RegroupError(
            f"--profile {arguments.profile}: no params.yaml in it, so it is no profile"
            + (f"; here there is {here}" if here else "")
        )
    params = load_params(arguments.profile / "params.yaml")
    findings = examine(params, runs=_runs(params))
    width = shutil.get_terminal_size((110, 24)).columns
    print(format_findings(params.name, findings, width))
    return 1 if any(finding.state == "missing" for finding in findings) else 0


def format_findings(profile: str, findings: Sequence[Finding], width: int) -> str:
    """The findings as a table of `width` columns, and a last line that sums them up."""
    heads = [("", finding.area, finding.item, _MARKS[finding.state]) for finding in findings]
    columns = [max(len(head[k]) for head in heads) for k in (1, 2, 3)]
    lines = [f"profile {profile}"]
    area = None
    for finding in findings:
        shown = finding.area if finding.area != area else ""
        area = finding.area
        cells = (shown, finding.item, _MARKS[finding.state])
        start = "  ".join(cell.ljust(size) for cell, size in zip(cells, columns, strict=True)) + "  "
        room = max(30, width - len(start))
        first, *rest = textwrap.wrap(" ".join(finding.detail.split()), room, break_on_hyphens=False) or [""]
        lines += [start + first, *(" " * len(start) + line for line in rest)]
    missing = sum(finding.state == "missing" for finding in findings)
    lines.append(
        f"{missing} missing: a run cannot start" if missing else "nothing is missing: a run can start"
    )
    return "\n".join(line.rstrip() for line in lines)
