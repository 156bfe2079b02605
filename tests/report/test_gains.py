"""Tables that tell what rows gain over another, where scores are on no publication's scale."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.report import tables
from regroup.report.comparison import Spread, Spreads
from regroup.report.reference import load_reference
from regroup.report.table_view import format_console, write_table
from tests.thesis import build_table, thesis

from .made_metrics import read_csv

WriteMetrics = Callable[..., Path]


@pytest.fixture
def seeds(metrics: WriteMetrics) -> dict[str, list[Path]]:
    """Three rows of table 11: the checkpoint as it came, and two with three seeds in common."""
    return {
        "original": [metrics("o", coco=14.0)],
        "fine_tuning": [metrics(f"f{k}", seed=k, coco=19.0 + k) for k in range(3)],
        "ge": [metrics(f"g{k}", seed=k, coco=18.5 + k + k % 2 / 10) for k in range(3)],
    }


SPREADS = {"coco": Spreads(Spread(0.25, 6), Spread(0.04, 4))}


def test_drawn_data_has_gains_over_the_baseline_in_place_of_deltas(
    seeds: dict[str, list[Path]], tmp_path: Path
) -> None:
    table = build_table(11, seeds, profile="mini", drawn=True, spreads=SPREADS)
    rows = read_csv(table, tmp_path)
    assert not [key for key in rows["ge"] if key.endswith("_delta")]
    assert rows["original"]["coco_gain"] == rows["original"]["coco_thesis_gain"] == "baseline"
    ge = rows["ge"]
    # the thesis's 27.86 - 24.30; ours 19.53 - 14.00, give or take t(6) x 0.5 / sqrt(3)
    assert (ge["coco_thesis_gain"], ge["coco_gain"], ge["coco_gain_half_width"]) == ("+3.56", "+5.53", "0.71")
    assert (ge["coco_gain_seeds"], ge["coco_gain_method"]) == ("3", "pooled")
    assert (ge["voc_thesis_gain"], ge["voc_gain"]) == ("+1.09", "missing")
    text = (tmp_path / "table11.md").read_text()
    assert "| Method | COCO gain thesis | COCO gain ours (mini) | PVOC gain thesis |" in text
    assert "| GE | +3.56 | +5.53 ± 0.71 | +1.09 | missing |" in text
    assert "| ADE20K gain ours (mini) | COCO thesis | COCO ours (mini) | PVOC thesis |" in text
    assert "| missing | 27.86 | 19.53 ± 1.00 | 53.38 | missing |" in text
    assert "Gain: points over the row Original." in text
    assert "delta" not in text
    shown = format_console(table)
    assert re.search(r"^GE +27\.86 19\.53 ± 1\.00 ", shown, re.MULTILINE)
    assert re.search(r"^  gain +\+3\.56 \+5\.53 ± 0\.71 ", shown, re.MULTILINE)
    assert "delta" not in shown


def test_real_data_has_deltas_and_gains_for_programs(seeds: dict[str, list[Path]], tmp_path: Path) -> None:
    table = build_table(11, seeds, profile="mini", drawn=False, spreads=SPREADS)
    row = read_csv(table, tmp_path)["fine_tuning"]
    assert (row["coco_delta"], row["coco_gain"]) == ("-6.81", "+6.00")
    assert "| 26.81 | 20.00 ± 1.00 | -6.81 |" in (tmp_path / "table11.md").read_text()
    assert "gain" not in format_console(table)


def test_a_trained_baseline_of_the_same_seeds_is_compared_seed_by_seed(
    seeds: dict[str, list[Path]], tmp_path: Path
) -> None:
    rows = {"batch_256": seeds["fine_tuning"], "batch_512": seeds["ge"]}
    row = read_csv(build_table(4, rows, profile="mini", drawn=True, spreads=SPREADS), tmp_path)["batch_512"]
    # t(4) x sqrt(2 x 0.04 / 3)
    assert (row["coco_gain"], row["coco_gain_half_width"]) == ("-0.47", "0.45")
    assert (row["coco_gain_method"], row["coco_gain_seeds"]) == ("blocked", "3")


PAIRS = """
tables:
  - number: 31
    title: Both ways
    setting: 30 epochs
    labels: [Row, Form]
    columns: [coco]
    baseline: fine_tuning
    rows:
      - {id: fine_tuning, labels: [Fine-tuning, coded]}
      - {id: ge, labels: [GE, coded]}
      - {id: noise_free_ge, labels: [Noise-free, written], over: ge}
"""


def test_a_row_can_be_compared_with_another_than_the_baseline(
    seeds: dict[str, list[Path]], tmp_path: Path
) -> None:
    (tmp_path / "tables.yaml").write_text(PAIRS)
    reference = load_reference(tmp_path / "tables.yaml")
    rows = {name: seeds[name] for name in ("fine_tuning", "ge")} | {"noise_free_ge": seeds["fine_tuning"]}
    for drawn in (True, False):  # nothing is printed to take a delta from
        table = tables.build_table(31, rows, profile="mini", drawn=drawn, reference=reference)
        found = read_csv(table, tmp_path)
        assert [found[name]["coco_gain"] for name in rows] == ["baseline", "-0.47", "+0.47"]
        assert "COCO gain ours" in (tmp_path / "table31.md").read_text()
        assert any("or over the row that it is compared with" in note for note in table.notes)
        assert any("drawn images are on a scale" in note for note in table.notes) is drawn


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("over: ge", "over: gee", "row noise_free_ge: over: no other row is called 'gee'"),
        ("over: ge", "over: noise_free_ge", "no other row is called 'noise_free_ge'"),
        ("    baseline: fine_tuning\n", "", "over: is in place of the table's `baseline`, and there is none"),
    ],
)
def test_what_a_row_is_compared_with_is_another_row(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "tables.yaml").write_text(PAIRS.replace(old, new))
    with pytest.raises(RegroupError) as error:
        load_reference(tmp_path / "tables.yaml")
    assert message in str(error.value)


def test_without_a_known_spread_a_gain_has_no_interval(seeds: dict[str, list[Path]]) -> None:
    table = build_table(11, seeds, profile="mini", drawn=True)
    shown = format_console(table)
    assert re.search(r"^  gain +\+3\.56 +\+5\.53 ", shown, re.MULTILINE)
    assert any("not known without rows of several seeds" in note for note in table.notes)


def test_every_table_of_the_thesis_has_a_baseline_or_says_why_not() -> None:
    for number in thesis().numbers:
        printed = thesis().table(number)
        assert printed.baseline is not None or printed.no_baseline
    assert {thesis().table(number).baseline for number in (1, 3, 5, 6, 7, 9, 10, 11)} == {"original"}


def test_a_table_without_a_baseline_says_why(metrics: WriteMetrics, tmp_path: Path) -> None:
    text = """
tables:
  - number: 1
    title: T
    setting: S
    labels: [L]
    columns: [voc]
    no_baseline: no row is what others started from
    rows: [{id: a, labels: [A], values: [1.0]}]
"""
    (tmp_path / "tables.yaml").write_text(text)
    reference = load_reference(tmp_path / "tables.yaml")
    table = tables.build_table(1, {}, profile="mini", drawn=True, reference=reference)
    assert "No gains: no row is what others started from." in table.notes
    (tmp_path / "tables.yaml").write_text(text.replace("no_baseline", "baseline: b\n    no_baseline"))
    with pytest.raises(RegroupError, match=r"tables\.yaml: .*no_baseline: says why there is no `baseline`"):
        load_reference(tmp_path / "tables.yaml")
    (tmp_path / "tables.yaml").write_text(text.replace("no_baseline: no row", "baseline: no row"))
    with pytest.raises(RegroupError, match=r"no row is called 'no row is what .*'; the rows are a"):
        load_reference(tmp_path / "tables.yaml")


def test_a_table_that_nothing_is_printed_of_has_gains_too(
    seeds: dict[str, list[Path]], tmp_path: Path
) -> None:
    rows = "[{id: original, labels: [A], trained: false}, {id: ge, labels: [B]}]"
    (tmp_path / "tables.yaml").write_text(
        "tables:\n  - {number: 31, title: T, setting: S, labels: [L], columns: [coco], baseline: original, "
        f"rows: {rows}}}\n"
    )
    reference = load_reference(tmp_path / "tables.yaml")
    given = {name: seeds[name] for name in ("original", "ge")}
    table = tables.build_table(31, given, profile="mini", drawn=True, reference=reference, spreads=SPREADS)
    write_table(table, tmp_path)
    text = (tmp_path / "table31.md").read_text()
    assert "| L | COCO gain ours (mini) | COCO ours (mini) |" in text
    assert "| B | +5.53 ± 0.71 | 19.53 ± 1.00 |" in text
    shown = format_console(table)
    assert re.search(r"^B +19\.53 ± 1\.00$", shown, re.MULTILINE)
    assert re.search(r"^  gain +\+5\.53 ± 0\.71$", shown, re.MULTILINE)
