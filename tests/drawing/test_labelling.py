"""What is drawn is said to be, whatever its profile is called; what is real is not called drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regroup.drawing.labelling import OPENMOJI, figure_note, table_note
from regroup.params import Params
from regroup.profile_tables import profile_table
from regroup.report.learning import Line, draw_learning
from regroup.report.page.build import build_page
from regroup.report.table_view import format_console
from regroup.report.what_moved import format_what_moved
from regroup.settings import parse, read_yaml
from tests.thesis import check_claims, thesis

ROOT = Path(__file__).parents[2]
REAL = {"kind": "local", "root": "/datasets"}
WARNING = "small model on small drawn images"


def profile(name: str, **kinds: str) -> Params:
    values = read_yaml(ROOT / "params.yaml") | {"name": name}
    for source in values["sources"]:
        values["sources"][source] = {"kind": "mini"} if kinds.get(source) == "drawn" else dict(REAL)
    return parse(Params, values, Path("params.yaml"))


TINY = profile("tiny", **dict.fromkeys(("coco", "voc12", "context", "ade"), "drawn"))
MIXED = profile("full", ade="drawn")
MINI_ON_REAL_DATA = profile("mini")


@pytest.mark.parametrize(("params", "drawn"), [(TINY, True), (MIXED, True), (MINI_ON_REAL_DATA, False)])
def test_the_sources_decide_not_the_name(params: Params, drawn: bool, tmp_path: Path) -> None:
    assert params.drawn is drawn
    table = format_console(profile_table(11, {}, params, reference=thesis()))
    claims = format_what_moved(check_claims({}, profile=params.name, drawn=params.drawn))
    page = build_page(
        tmp_path,
        profile=params.name,
        drawn=params.drawn,
        settings=params.page,
        params_file=params.params_file,
        titles={},
        reference=thesis(),
    )
    for text in (table, claims, page):
        assert (WARNING in " ".join(text.split())) is drawn
    assert (OPENMOJI in page) is drawn


@pytest.mark.parametrize(("params", "drawn"), [(TINY, True), (MINI_ON_REAL_DATA, False)])
def test_a_figure_says_so_with_the_attribution(params: Params, drawn: bool) -> None:
    lines = {"Panel": {"One": Line(np.arange(2.0), np.array([[1.0, 2.0]]))}}
    figure = draw_learning(lines, 1.0, dataset="coco", profile=params.name, drawn=params.drawn).figure
    said = " ".join(text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text")))
    assert ("OpenMoji" in said) is drawn
    assert (f"({params.name})" in said) is drawn


def test_the_notes_name_the_profile() -> None:
    for printed in (True, False):
        note = str(table_note("tiny", drawn=True, printed=printed))
        assert note.startswith("tiny: ")
        assert ("its column stands beside them" in note) is printed
    assert str(figure_note("tiny", drawn=True)).startswith("tiny: ")
    assert table_note("mini", drawn=False, printed=True) is None
    assert figure_note("mini", drawn=False) is None
