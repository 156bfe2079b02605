"""The command `regroup`: what people do by hand around the pipeline."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from regroup.commands.arguments import Parser
from regroup.errors import readable_errors

COMMANDS = {
    "check": ("regroup.commands.check", "check a study's parameters, variants and tables against each other"),
    "plan": ("regroup.commands.plan", "runs, steps, memory and hours of a study, before it is started"),
    "doctor": ("regroup.commands.doctor", "say what a profile needs and what is missing"),
    "profile": ("regroup.commands.profile", "make a profile from its overrides.yaml"),
    "summary": ("regroup.commands.summary", "print a profile's tables and where to look further"),
    "verify": ("regroup.commands.verify", "compare the scores that were made with those that are checked in"),
    "page": ("regroup.commands.page", "write the report's page with the facts of the last run"),
    "checkpoint": ("regroup.commands.checkpoint", "inspect, convert and make checkpoints"),
    "datasets": ("regroup.commands.datasets", "list datasets; check or score any folder of images and masks"),
    "shards": ("regroup.commands.shards", "verify caption shards"),
    "segment": ("regroup.commands.segment", "segment images with class names of your own"),
    "worst": ("regroup.commands.worst", "show the images that a checkpoint segments worst"),
    "sweep": ("regroup.commands.sweep", "score a checkpoint over a grid of inference settings"),
    "bench": ("regroup.commands.bench", "score checkpoints on every evaluation of some studies"),
    "dissect": ("regroup.commands.dissect", "score a checkpoint's grouping and alignment, each on its own"),
}
"""Each command's module and its line of help.

A module's `add_parser(commands)` adds its parser, whose default `run` is a function of the parsed arguments.
Modules are imported only for the command at hand: `regroup --help` answers at once.
"""

EXAMPLES = """examples:
  regroup doctor                       whether everything is here that a run needs
  regroup summary                      the tables of the default profile
  regroup profile mycoco               write mycoco/params.yaml from mycoco/overrides.yaml
  regroup segment dog.jpg --classes "dog, grass, sky"
  regroup COMMAND --help               more about one command

exit status: 0 done, 1 done and something was found wrong, 2 not done and why, 130 interrupted"""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; bad input ends with one message on standard error and exit status 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in argv if not word.startswith("-")), None)
    known = chosen if chosen in COMMANDS else None
    with readable_errors(f"regroup {known}" if known else "regroup"):
        arguments = make_parser(known).parse_args(argv)
        if (params := getattr(arguments, "params", None)) is not None:
            for file in params if isinstance(params, list) else [params]:
                import_module("regroup.profile").follow_profile(file)
        status = arguments.run(arguments) or 0
    raise SystemExit(status)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"regroup {version('regroup-ovs')}")
        parser.exit()


def make_parser(command: str | None) -> Parser:
    """The parser of one command; the others are there by name alone."""
    parser = Parser(prog="regroup", description=sys.modules["regroup"].__doc__, epilog=EXAMPLES)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (module, help_line) in COMMANDS.items():
        if name == command:
            import_module(module).add_parser(commands)
        else:
            commands.add_parser(name, help=help_line)
    return parser
