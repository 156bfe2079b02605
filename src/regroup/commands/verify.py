"""`regroup verify`: the scores that were made beside those that are checked in."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from regroup.commands.arguments import add_params, text
from regroup.errors import RegroupError
from regroup.params import Params, load_params
from regroup.report.verify import (
    CLAIMS,
    SCORES,
    Turn,
    read_claims,
    read_scores,
    turned,
    verify,
)
from regroup.report.verify_words import as_json, one_line, table_lines
from regroup.variants_file import load_scored

ABOUT = """\
Say in one line how many scores differ from those that are checked in, by how much at most, whether that is
within what another processor or another seed does, and whether a claim changed sides. Nothing is run.
Exit status: 0 within, 1 outside, 2 where there is nothing to compare. docs/processors.md has the limits."""

EXAMPLES = """examples:
  regroup verify                       what this machine made, against what is checked in
  regroup verify --table               every score that differs
  regroup verify --against v0.1.0      against an earlier revision
  regroup verify --against ../other/reports/mini/tables"""


def add_parser(commands: Any) -> None:
    """Add the command `verify` to the parser of `regroup`."""
    parser = commands.add_parser(
        "verify",
        help="compare the scores that were made with those that are checked in",
        description=ABOUT,
        epilog=EXAMPLES,
    )
    add_params(parser)
    parser.add_argument(
        "--against",
        type=text,
        default="HEAD",
        metavar="WHAT",
        help=f"a git revision, or a folder with another run's {SCORES} and {CLAIMS} (HEAD)",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--table", action="store_true", help="print every difference as well")
    shown.add_argument("--json", action="store_true", help="print everything as JSON instead")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    params = load_params(arguments.params)
    tables = params.layout.tables
    if not (tables / SCORES).is_file():
        pipeline = params.params_file.with_name("dvc.yaml")
        makes = "make repro" if pipeline == Path("dvc.yaml") else f"dvc repro {pipeline}"
        raise RegroupError(f"{tables / SCORES}: no such file; `{makes}` makes it")
    name, before = _before(arguments.against, tables)
    old_scores = before(SCORES)
    if old_scores is None:
        raise RegroupError(
            f"{name} has no {tables / SCORES}, so there is nothing to compare with; commit the profile's "
            "tables, or name another run's folder: --against FOLDER"
        )
    now = read_scores(_text(tables / SCORES), str(tables / SCORES))
    seeds, untrained = _variants(params)
    found = verify(
        read_scores(old_scores, f"{name}: {SCORES}"),
        now,
        seeds=seeds,
        untrained=untrained,
        turns=_turns(before(CLAIMS), tables / CLAIMS, name),
        against=name,
    )
    if arguments.json:
        print(json.dumps(as_json(found), indent=2, ensure_ascii=False))
    else:
        line = one_line(found)
        if not params.layout.metrics.is_dir():
            line += f"; nothing was made here yet ({params.layout.metrics} is not there)"
        print("\n".join([f"verify: {line}", *(table_lines(found) if arguments.table else [])]))
    return 0 if found.within else 1


def _variants(params: Params) -> tuple[list[frozenset[str]], frozenset[str]]:
    """Sets of variants whose runs differ in the seed alone (they fill one row), and those not trained."""
    variants = load_scored(params.variants_file, params.data)
    rows: dict[tuple[int, str], set[str]] = defaultdict(set)
    for name, variant in variants.items():
        for row in variant.rows:
            rows[row.table, row.row].add(name)
    alone = [frozenset([name]) for name, variant in variants.items() if not variant.rows]
    seeds = list(dict.fromkeys([*map(frozenset, rows.values()), *alone]))
    return seeds, frozenset(name for name, variant in variants.items() if not variant.trained)


def _turns(old: str | None, file: Path, name: str) -> list[Turn] | None:
    if old is None or not file.is_file():
        return None
    return turned(read_claims(old, f"{name}: {CLAIMS}"), read_claims(_text(file), str(file)))


def _before(against: str, tables: Path) -> tuple[str, Callable[[str], str | None]]:
    """What to compare with: its name, and how to read a file of it (None: it has no such file)."""
    if (folder := Path(against)).is_dir():
        return against, lambda name: _text(folder / name) if (folder / name).is_file() else None
    if against.startswith("-"):
        raise RegroupError(f"--against {against!r}: neither a git revision nor a folder")
    if _git("rev-parse", "--git-dir") is None:
        raise RegroupError(
            "no git here that knows what is checked in; another run's folder will do: --against FOLDER"
        )
    commit = _git("rev-parse", "--verify", "--quiet", "--short", f"{against}^{{commit}}")
    if commit is None:
        raise RegroupError(f"--against {against!r}: neither a git revision nor a folder")
    return f"{against} ({commit.strip()})", lambda name: _git("show", f"{against}:./{tables / name}")


def _git(*words: str) -> str | None:
    """What git prints; None where it fails."""
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(["git", *words], env=environment, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RegroupError(f"{path}: cannot be read ({error})") from None
