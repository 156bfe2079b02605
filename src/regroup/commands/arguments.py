"""What an argument of a command may be: every number has a range, every name is known, nothing is empty.

Each function makes the `type` of an argument, which argparse calls with the text that the user gave; a
refusal names the argument and says what is possible.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from regroup.errors import RegroupError

MOST_PIXELS = 8192
MOST_IMAGES = 1_000_000_000
DEVICES = ("auto", "cpu", "cuda")


class Parser(argparse.ArgumentParser):
    """A parser that takes no option twice and no option cut short: neither can be meant.

    Subcommands get parsers of this kind too. Epilogs keep their line ends.
    """

    def __init__(self, *given: Any, **settings: Any) -> None:
        """Make a parser; the arguments are argparse's."""
        settings.setdefault("formatter_class", _Help)
        super().__init__(*given, **{"allow_abbrev": False, **settings})
        self.register("action", None, _Once)
        self.register("action", "store", _Once)


class _Help(argparse.HelpFormatter):
    """Wraps a paragraph, and leaves lines as they are where there are several."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return "".join(indent + line for line in text.splitlines(keepends=True))
        return super()._fill_text(text, width, indent)


class _Once(argparse.Action):
    """Stores a value, as argparse does by default, but refuses to forget one."""

    given = False

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if self.given and self.option_strings:
            raise argparse.ArgumentError(self, "is given twice")
        self.given = True
        setattr(namespace, self.dest, values)


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def read(text: str) -> int:
        if re.fullmatch(r"[+-]?[0-9]{1,20}", text.strip()) and low <= int(text) <= high:
            return int(text)
        raise argparse.ArgumentTypeError(
            f"{shown(text)} is not possible: a whole number from {low:,} to {high:,}"
        )

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """A number from `low` to `high`; "nan" is in no range."""

    def read(text: str) -> float:
        try:
            value = float(text) if text.isascii() and "_" not in text else math.nan
        except ValueError:
            value = math.nan
        if low <= value <= high:
            return value
        raise argparse.ArgumentTypeError(f"{shown(text)} is not possible: a number from {low:g} to {high:g}")

    return read


def text(given: str) -> str:
    """Text that is not empty and is UTF-8."""
    if not given.strip():
        raise argparse.ArgumentTypeError("is empty")
    try:
        given.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{shown(given)} is not UTF-8") from None
    return given


def path(given: str) -> Path:
    """A path; what lies there, if anything, is for the command to say. File names may be of any bytes."""
    if not given:
        raise argparse.ArgumentTypeError("is empty")
    return Path(given)


def shown(given: str) -> str:
    """Text in a message: quoted, cut where it is long."""
    return repr(given if len(given) <= 60 else f"{given[:57]}...")


def check_known(names: Iterable[str], known: Sequence[str], option: str) -> None:
    """Refuse names that are unknown or given twice.

    Raises:
        RegroupError: the message names the option and lists what is known.
    """
    names = list(names)
    if unknown := [name for name in names if name not in known]:
        raise RegroupError(f"{option}: no {', '.join(map(shown, unknown))}; known: {', '.join(known)}")
    check_distinct(names, option)


def check_distinct(values: Iterable[Any], option: str) -> None:
    """Refuse values that are given twice.

    Raises:
        RegroupError: names them.
    """
    if twice := [str(value) for value, count in Counter(values).items() if count > 1]:
        raise RegroupError(f"{option}: {', '.join(twice)} is given twice")


def add_actions(commands: Any, name: str, *, about: str, description: str | None, examples: str) -> Any:
    """Add a command that has several actions, one of which is to be given.

    Args:
        commands: those of `regroup`.
        name: of the command.
        about: in the list of commands.
        description: above its own help.
        examples: below it.

    Returns:
        What the actions' parsers are added to.
    """
    parser = commands.add_parser(name, help=about, description=description, epilog=examples)
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION")


def add_params(parser: argparse.ArgumentParser) -> None:
    """Add `--params`, the profile a command works on."""
    parser.add_argument(
        "--params", type=path, default=Path("params.yaml"), metavar="FILE", help="the profile (params.yaml)"
    )


def add_device(parser: argparse.ArgumentParser, default: str | None) -> None:
    """Add `--device`."""
    parser.add_argument(
        "--device", choices=DEVICES, default=default, help=f"({default or 'as the profile says'})"
    )


def real(place: Path) -> Path:
    """Where links lead, as far as they do; `Path.resolve` raises where they lead in a circle."""
    return Path(os.path.realpath(place))


def project_roots(*places: Path) -> set[Path]:
    """Folders above some places, and above where we are, that hold a pipeline of DVC's."""
    absolute = [Path(os.path.abspath(place)) for place in (*places, Path())]  # noqa: PTH100 (links stay)
    every = {folder for place in absolute for one in (place, real(place)) for folder in (one, *one.parents)}
    return {folder for folder in every if (folder / "dvc.yaml").is_file()}
