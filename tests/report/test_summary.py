"""The closing words of a run."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.cli import main
from regroup.report.comparison import Verdict
from regroup.report.summary import format_summary
from regroup.report.table_view import format_console
from tests.thesis import build_table, enter_project

TABLES = Path("reports", "mini", "tables")


@pytest.mark.parametrize("profile", ["mini", "full"])
def test_it_shows_the_table_and_where_to_look(profile: str) -> None:
    table = build_table(11, {}, profile=profile, drawn=profile == "mini")
    figure = Path("reports", profile, "figures", "qualitative.png")
    text = format_summary([table], tables=TABLES, figures=[figure])
    assert text.startswith(format_console(table))
    for place in ("reports/mini/tables/tableNN.md", str(figure), "dvc metrics show", "make ui"):
        assert place in text
    assert max(map(len, text.splitlines())) <= 100
    assert ("README" in text) == (profile == "mini")


def test_the_page_is_named_when_there_is_one() -> None:
    table = build_table(11, {}, profile="mini", drawn=True)
    page = Path("reports", "mini", "index.html")
    assert "Report:  reports/mini/index.html" in format_summary([table], tables=TABLES, figures=[], page=page)
    assert "Report:" not in format_summary([table], tables=TABLES, figures=[])


def test_it_tells_what_is_complete_and_what_the_claims_are(metrics: Callable[..., Path]) -> None:
    full = build_table(
        11, {"ge": [metrics("ge", coco=1.0, voc=1.0, context=1.0, ade=1.0)]}, profile="mini", drawn=True
    )
    figures = [Path("reports/mini/figures/a.png"), Path("reports/mini/sweep/b.png")]
    verdicts: dict[Verdict, int] = {"agree": 3, "disagree": 0, "cannot tell": 2, "missing": 0}
    every = [build_table(number, {}, profile="mini", drawn=True) for number in range(1, 11)]
    text = format_summary([full], every=[*every, full], verdicts=verdicts, tables=TABLES, figures=figures)
    assert "11: 1/4" in text
    assert "Claims:  3 agree, 2 cannot tell (reports/mini/tables/what_moved.md)" in text
    assert "Figures: reports/mini/figures (1)\nFigures: reports/mini/sweep (1)" in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return enter_project(tmp_path, monkeypatch)


def place(file: Path, project: Path) -> None:
    """Put a metrics file where the project's run would have left it."""
    folder = project / "reports/mini/metrics/segmentation" / file.parent.name
    folder.mkdir(parents=True)
    file.rename(folder / file.name)


def test_the_command_shows_the_scores_that_are_there(
    project: Path, metrics: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place(metrics("original", coco=31.25), project)
    with pytest.raises(SystemExit) as done:
        main(["summary", "--table", "11", "--table", "6", "--claims"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert text.index("What moved (mini)") < text.index("Table 11 (mini)") < text.index("Table 6 (mini)")
    # one run, and table 6 prints the same checkpoint as table 11
    assert len(re.findall(r"^Original +24\.30 +31\.25 +52\.29 ", text, re.MULTILINE)) == 2


def test_without_scores_the_command_says_what_to_run(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["summary"])
    assert done.value.code == 2
    assert "no scores yet; run `make repro`" in capsys.readouterr().err


def test_an_unknown_table_is_refused(
    project: Path, metrics: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    place(metrics("original", coco=31.25), project)
    with pytest.raises(SystemExit) as done:
        main(["summary", "--table", "15"])
    assert done.value.code == 2
    assert "there is no table 15" in capsys.readouterr().err
