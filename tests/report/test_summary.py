"""The closing words of a run."""

from pathlib import Path

import pytest

from regroup.report.summary import format_summary
from regroup.report.tables import build_table, format_console

TABLES = Path("reports", "mini", "tables")


@pytest.mark.parametrize("profile", ["mini", "full"])
def test_it_shows_the_table_and_where_to_look(profile: str) -> None:
    table = build_table(11, {}, profile=profile)
    figure = Path("reports", profile, "figures", "qualitative.png")
    text = format_summary(table, tables=TABLES, figures=[figure])
    assert text.startswith(format_console(table))
    for place in ("reports/mini/tables/table11.md", str(figure), "dvc metrics show", "make ui"):
        assert place in text
    assert max(map(len, text.splitlines())) <= 100
    assert ("README" in text) == (profile == "mini")


def test_the_page_is_named_when_there_is_one() -> None:
    table = build_table(11, {}, profile="mini")
    page = Path("reports", "mini", "index.html")
    assert "Report:  reports/mini/index.html" in format_summary(table, tables=TABLES, figures=[], page=page)
    assert "Report:" not in format_summary(table, tables=TABLES, figures=[])
