"""Every argument of every command has a range or a list of what it may be."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from regroup.cli import COMMANDS, main, make_parser
from regroup.stage import ITEMS, run

ROOT = Path(__file__).parents[2]
NUMBERS = ("nan", "inf", "-inf", "-1", "1e999", "9223372036854775808", "", "x", "1_0", "１")


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and all below it."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for other in action.choices.values():
                yield from parsers(other)


def arguments() -> list[tuple[str, argparse.Action]]:
    found = []
    for command in COMMANDS:
        [commands] = [a for a in make_parser(command)._actions if isinstance(a, argparse._SubParsersAction)]
        for parser in parsers(commands.choices[command]):
            found += [(parser.prog, action) for action in parser._actions if action.nargs != 0]
    return [(prog, action) for prog, action in found if not isinstance(action, argparse._SubParsersAction)]


@pytest.mark.parametrize(("prog", "action"), arguments(), ids=lambda value: getattr(value, "dest", value))
def test_every_argument_says_what_it_may_be(prog: str, action: argparse.Action) -> None:
    """Neither a bare `int`, `float` or `Path`, which take anything, nor no type at all."""
    if action.choices is not None:
        return
    assert action.type is not None, f"{prog}: {action.dest} takes any text"
    assert str(action.type.__module__).startswith("regroup.commands"), f"{prog}: {action.dest} has no range"


@pytest.mark.parametrize(("prog", "action"), arguments(), ids=lambda value: getattr(value, "dest", value))
def test_no_number_takes_nonsense(prog: str, action: argparse.Action) -> None:
    if action.choices is not None or action.type.__name__ != "read":
        return
    for text in NUMBERS:
        with pytest.raises(
            argparse.ArgumentTypeError, match=r"is not possible: a (whole )?number from .* to"
        ):
            action.type(text)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert not left.value.code
    shown = capsys.readouterr().out
    assert f"regroup {command}" in shown.partition("example")[2]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["check", "--params", "a", "--params", "b"], "argument --params: is given twice"),
        (["check", "--param", "a"], "unrecognized arguments: --param a"),
        (["summary", "--table", "11", "--table", "11"], "--table: 11 is given twice"),
        (["summary", "--table", "99"], "there is no table 99; there are 1, 2"),
        (["plan", "--no-measure", "--gpus", "8"], "--no-measure: there are no hours"),
        (["sweep", "pretrain/groupvit-mini", "--datasets", "voc", "city"], "no 'city'; known: coco, voc"),
        (["sweep", "pretrain/groupvit-mini", "--datasets", "voc", "voc"], "--datasets: voc is given twice"),
        (["sweep", "x", "--datasets", "voc", "--root", "voc=."], "--root 'voc': no source that is read here"),
        (["sweep", "x", "--datasets", "voc", "--root", "voc12"], "'voc12' is not SOURCE=FOLDER"),
        (["sweep", "x", "--datasets", "voc", "--root", "voc12=nowhere"], "no such folder nowhere"),
        (["sweep", "x", "--datasets", "voc", "--root", "coco=."], "what is: voc from voc12"),
        (
            ["sweep", "x", "--datasets", "voc", "--root", "voc12=.", "--root", "voc12=src"],
            "--root: voc12 is given twice",
        ),
        (
            ["sweep", "x", "--datasets", "voc", "--root", "voc12=.", "--threshold", "0.9", "0.90"],
            "--threshold: 0.9 is given twice",
        ),
        (["nonsense"], "invalid choice: 'nonsense'"),
    ],
)
def test_what_is_unknown_or_said_twice_is_refused(
    words: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err


def test_stages_with_items_are_those_of_the_pipeline() -> None:
    files = (ROOT / "dvc.yaml", ROOT / "pretrain/dvc.yaml")
    stages = {k: v for file in files for k, v in YAML(typ="safe", pure=True).load(file)["stages"].items()}
    assert set(ITEMS) == {name for name, stage in stages.items() if {"foreach", "matrix"} & set(stage)}


@pytest.mark.parametrize(
    ("stage", "words", "complaint"),
    [
        ("learning", ["--item", "x"], "--item x: the stage `learning` has no items"),
        (
            "source",
            ["--item", "nope"],
            "--item nope: no item of the stage `source` in this profile; known: coco",
        ),
        ("source", [], "--item is missing"),
        ("evaluate", ["--item", ""], "no item of the stage `evaluate`"),
        ("evaluate", ["--item", "original"], "known: segmentation-original"),
        ("evaluate", ["--item", "retrieval-original"], "known: segmentation-original"),
        ("dissect", ["--item", "no-such-variant"], "known: original"),
        ("finetune", ["--ite", "original"], "unrecognized arguments"),
    ],
)
def test_an_item_that_a_stage_does_not_have(
    stage: str,
    words: list[str],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", [f"stages/{stage}.py"])
    worked = []
    with pytest.raises(SystemExit) as left:
        run(worked.append, ["--params", "params.yaml", *words])
    assert left.value.code == 2
    assert complaint in capsys.readouterr().err
    assert not worked
