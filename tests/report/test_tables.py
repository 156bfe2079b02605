"""Tables built from metrics files: numbers, missing runs, seeds, labels of the profile, bytes."""

import csv
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.drawing.grid import markdown, read_grid
from regroup.errors import RegroupError
from regroup.report import tables
from regroup.report.comparison import Spread, Spreads, Verdict
from regroup.report.reference import load_reference
from regroup.report.scores_view import write_scores, write_summary
from regroup.report.table_view import format_console, write_table
from regroup.report.tables import Table
from regroup.settings import read_yaml
from tests.thesis import build_table, thesis

ALL = range(1, 15)

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


def read_csv(table: Table, folder: Path) -> dict[str, dict[str, str]]:
    (file,) = [path for path in write_table(table, folder) if path.suffix == ".csv"]
    with file.open(newline="") as lines:
        return {row["row"]: row for row in csv.DictReader(lines)}


def test_one_run_beside_the_thesis(metrics: WriteMetrics, tmp_path: Path) -> None:
    file = metrics("ge", coco=30.126, voc=42.0, context=22.25, ade=7.0)
    table = build_table(11, {"ge": [file]}, profile="mini", drawn=False)
    row = read_csv(table, tmp_path)["ge"]
    assert (row["coco_thesis"], row["coco_ours"], row["coco_delta"]) == ("27.86", "30.13", "+2.27")
    assert (row["voc_thesis"], row["voc_ours"], row["voc_delta"]) == ("53.38", "42.00", "-11.38")
    assert row["context_delta"] == "+0.00"
    assert (row["coco_ours_runs"], row["coco_ours_std"]) == ("1", "n/a")


def test_seeds_are_shown_as_mean_and_sample_deviation(metrics: WriteMetrics, tmp_path: Path) -> None:
    files = [metrics(f"np-{seed}", coco=value) for seed, value in enumerate((30.0, 31.0, 32.0))]
    table = build_table(5, {"np_nouns_5": files}, profile="mini", drawn=False)
    row = read_csv(table, tmp_path)["np_nouns_5"]
    assert (row["coco_ours"], row["coco_ours_std"], row["coco_ours_runs"]) == ("31.00", "1.00", "3")
    assert (row["coco_thesis"], row["coco_thesis_std"]) == ("26.74", "0.21")
    assert "| 26.74 ± 0.21 | 31.00 ± 1.00 | +4.26 |" in (tmp_path / "table05.md").read_text()
    assert r"26.74 $\pm$ 0.21 & 31.00 $\pm$ 1.00 & $+4.26$" in (tmp_path / "table05.tex").read_text()
    assert re.search(r"±0\.21 ±1\.00", format_console(table))


@pytest.mark.parametrize("number", ALL)
def test_without_runs_every_table_says_missing_and_nothing_is_blank(number: int, tmp_path: Path) -> None:
    table = build_table(number, {}, profile="full", drawn=False)
    rows = read_csv(table, tmp_path)
    assert list(rows) == [row.id for row in thesis().table(number).rows]
    for row in rows.values():
        assert all(row.values())
        for column in table.columns:
            assert (row[f"{column}_ours"], row[f"{column}_delta"]) == ("missing", "missing")
    lines = (tmp_path / f"table{number:02}.md").read_text().splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("|")]
    assert len({len(line) for line in cells}) == 1
    assert all(cell.strip() for line in cells for cell in line)


def test_a_dataset_that_a_run_was_not_scored_on_is_missing(metrics: WriteMetrics, tmp_path: Path) -> None:
    row = read_csv(build_table(11, {"ge": [metrics("ge", coco=30.0)]}, profile="mini", drawn=True), tmp_path)[
        "ge"
    ]
    assert (row["coco_ours"], row["voc_ours"]) == ("30.00", "missing")


def test_runs_that_do_not_exist_yet_are_counted(metrics: WriteMetrics, tmp_path: Path) -> None:
    there = metrics("a", coco=30.0)
    later = there.parents[1] / "later" / there.name
    table = build_table(11, {"ge": [there, later]}, profile="mini", drawn=True)
    assert "GE: 1 of 2 runs." in table.notes
    assert read_csv(table, tmp_path)["ge"]["coco_ours_runs"] == "1"


def test_mini_is_named_wherever_its_numbers_stand(metrics: WriteMetrics, tmp_path: Path) -> None:
    table = build_table(11, {"ge": [metrics("ge", coco=30.0)]}, profile="mini", drawn=True)
    texts = [format_console(table)]
    texts += [path.read_text() for path in write_table(table, tmp_path) if path.suffix != ".csv"]
    for text in texts:
        assert "Table 11 (mini): " in text
        assert "not the thesis's" in " ".join(text.split())
    assert all("ours (mini)" in text for text in texts[1:])
    assert {row["profile"] for row in read_csv(table, tmp_path).values()} == {"mini"}


def test_full_is_not_called_mini(metrics: WriteMetrics, tmp_path: Path) -> None:
    table = build_table(11, {"ge": [metrics("ge", profile="full", coco=30.0)]}, profile="full", drawn=False)
    assert all("mini" not in path.read_text() for path in write_table(table, tmp_path))


@pytest.mark.parametrize("number", ALL)
def test_the_terminal_form_fits_100_columns(number: int, metrics: WriteMetrics) -> None:
    rows = {}
    for row in thesis().table(number).rows:
        files = [
            metrics(f"{row.id}-{k}", coco=0.004 + k, voc=99.99 - k, context=50.0, ade=100.0) for k in (0, 1)
        ]
        rows[row.id] = files
    for table in (
        build_table(number, {}, profile="mini", drawn=True),
        build_table(number, rows, profile="mini", drawn=True),
    ):
        assert max(map(len, format_console(table).splitlines())) <= 100


def test_columns_of_the_terminal_form_are_aligned(metrics: WriteMetrics) -> None:
    text = format_console(
        build_table(11, {"original": [metrics("o", coco=9.5)]}, profile="mini", drawn=False)
    )
    lines = text.splitlines()
    original = next(line for line in lines if line.startswith("Original"))
    tuned = next(line for line in lines if line.startswith("Fine-tuning"))
    assert original.index("24.30") == tuned.index("26.81")
    assert original.index("-14.80") + len("-14.80") == tuned.index("missing") + len("missing")


def test_the_same_files_give_the_same_bytes_in_any_order(metrics: WriteMetrics, tmp_path: Path) -> None:
    files = [metrics(f"np-{k}", coco=30.1 + k / 3, voc=40.7 - k / 7) for k in range(5)]
    first = write_table(build_table(5, {"caption": files}, profile="mini", drawn=True), tmp_path / "a")
    again = write_table(build_table(5, {"caption": files[::-1]}, profile="mini", drawn=True), tmp_path / "b")
    assert [path.name for path in first] == ["table05.csv", "table05.json", "table05.md", "table05.tex"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


@pytest.mark.parametrize("number", ALL)
def test_latex_rows_have_as_many_cells_as_columns(number: int, tmp_path: Path) -> None:
    *_, tex = write_table(build_table(number, {}, profile="mini", drawn=True), tmp_path)
    text = tex.read_text()
    assert not re.search(r"[^\x00-\x7f]", text)
    specification = re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}", text)[1]
    inner = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line for line in inner.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 2 + len(thesis().table(number).rows)
    for line in rows:
        spans = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line))
        assert len(re.findall(r"(?<!\\)&", line)) + 1 + spans == len(specification)
        assert not re.search(r"(?<!\\)[#%_]", line)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2


def test_rows_that_nothing_fills_are_named(metrics: WriteMetrics) -> None:
    filled = thesis().fill([(11, "ge", metrics("ge", coco=30.0))])
    assert [ref.row for ref in thesis().unfilled(filled, [11])] == [
        "original",
        "fine_tuning",
        "noise_free_ge",
    ]
    assert str(thesis().unfilled(filled, [14])[0]) == "table 14, row dino"
    table = build_table(11, filled[11], profile="mini", drawn=True)
    assert "Nothing fills: Original; Fine-tuning; Non-noisy CL + GE." in table.notes
    assert table.complete == 0


def test_readers_of_single_runs_are_told_what_chance_does() -> None:
    spreads = {"coco": Spreads(Spread(0.25, 4)), "voc": Spreads()}
    table = build_table(11, {}, profile="mini", drawn=True, spreads=spreads)
    (note,) = [note for note in table.notes if "by chance" in note]
    # t(4) x 0.5 x sqrt(2) = 2.776 x 0.7071
    assert note.endswith("(95%): COCO 1.96.")
    assert not any("by chance" in note for note in build_table(11, {}, profile="mini", drawn=True).notes)


def test_scores_of_all_runs_are_one_small_file(metrics: WriteMetrics, tmp_path: Path) -> None:
    folder = metrics("ge", coco=30.126, voc=40.0).parents[2]
    write_scores(folder, ["segmentation"], ["ge", "later"], tmp_path / "tables", profile="mini")
    assert (
        tmp_path / "tables/scores.csv"
    ).read_text() == "variant,seed,coco,voc,context,ade\nge,,30.13,40.0,,\n"


def test_a_summary_for_dvc_is_a_few_numbers(metrics: WriteMetrics, tmp_path: Path) -> None:
    folder = metrics("ge", coco=30.126, birds=5.0).parents[2]
    verdicts: dict[Verdict, int] = {"agree": 7, "cannot tell": 2}
    write_summary(folder, "ge", verdicts, tmp_path, profile="mini")
    summary = read_yaml(tmp_path / "summary.yaml")
    assert summary == {"coco": 30.13, "birds": 5.0, "claims": {"agree": 7, "cannot_tell": 2}}
    write_summary(folder, "later", verdicts, tmp_path, profile="mini")
    assert read_yaml(tmp_path / "summary.yaml") == {"claims": {"agree": 7, "cannot_tell": 2}}


def test_scores_have_datasets_of_ones_own(metrics: WriteMetrics, tmp_path: Path) -> None:
    folder = metrics("ge", birds=5.0, voc=40.0).parents[2]
    metrics("old", coco=1.0)
    write_scores(folder, ["segmentation"], ["old", "ge"], tmp_path / "tables", profile="mini")
    lines = (tmp_path / "tables/scores.csv").read_text().splitlines()
    assert lines == ["variant,seed,coco,voc,context,ade,birds", "old,,1.0,,,,", "ge,,,40.0,,,5.0"]


def test_the_grid_comes_back_from_its_json(metrics: WriteMetrics, tmp_path: Path) -> None:
    files = [metrics(f"np-{k}", coco=30.0 + k) for k in range(2)]
    write_table(build_table(5, {"caption": files}, profile="mini", drawn=True), tmp_path)
    grid = read_grid(tmp_path / "table05.json")
    assert markdown(grid) == (tmp_path / "table05.md").read_text()


def test_protocols_are_named_and_a_mixed_column_is_flagged(metrics: WriteMetrics) -> None:
    one = {"ge": [metrics("a", protocol="voc", voc=1.0)], "original": [metrics("b", protocol="voc", voc=2.0)]}
    assert "Protocols: PVOC voc." in build_table(11, one, profile="mini", drawn=True).notes
    two = {**one, "original": [metrics("c", protocol="voc_other", voc=2.0)]}
    assert any(
        "different protocols (voc, voc_other)" in note
        for note in build_table(11, two, profile="mini", drawn=True).notes
    )


def test_files_of_another_profile_are_refused(metrics: WriteMetrics) -> None:
    file = metrics("ge", profile="mini", coco=30.0)
    with pytest.raises(
        RegroupError, match=r"ge/metrics\.json: profile: made by profile 'mini'.*about 'full'"
    ):
        build_table(11, {"ge": [file]}, profile="full", drawn=False)


def test_a_row_that_the_table_does_not_have_is_refused() -> None:
    with pytest.raises(
        RegroupError, match="table 11: no row is called 'gee'; its rows are original, fine_tuning"
    ):
        build_table(11, {"gee": []}, profile="mini", drawn=True)


@pytest.mark.parametrize("value", ["101", "-1", "NaN", "null", '"thirty"'])
def test_impossible_scores_are_refused(value: str, metrics: WriteMetrics) -> None:
    file = metrics("ge", coco=30.0)
    file.write_text(file.read_text().replace("30.0", value))
    with pytest.raises(RegroupError, match=r"ge/metrics\.json: datasets\.coco\.values\.miou: "):
        build_table(11, {"ge": [file]}, profile="mini", drawn=True)


def test_one_run_cannot_count_as_two_seeds(metrics: WriteMetrics, tmp_path: Path) -> None:
    file = metrics("ge", coco=30.0)
    copy = tmp_path / "copy.json"
    copy.write_bytes(file.read_bytes())
    with pytest.raises(RegroupError, match="the same weights as in"):
        build_table(11, {"ge": [file, copy]}, profile="mini", drawn=True)


def test_text_of_users_is_text_in_every_format() -> None:
    from regroup.drawing.grid import Grid, latex, markdown

    grid = Grid("a $x$ | b", ("[c]", "*d"), ((r"5% & #1_{a}~^\ <b>", "[x"), ("line\nbreak", "a|b`")), 2)
    shown = markdown(grid)
    assert r"**a \$x\$ \| b**" in shown
    assert r"| line break | a\|b\` |" in shown
    assert r"\<b>" in shown
    tex = latex(grid)
    assert r"\textbf{a \$x\$ \textbar{} b}" in tex
    assert r"{}[c] & {}*d \\" in tex, "a bracket or a star after a line's end would be its argument"
    assert r"5\% \& \#1\_\{a\}\textasciitilde{}\textasciicircum{}\textbackslash{} \textless{}b" in tex
    assert r"line break & a\textbar{}b`" in tex


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
    for number in ALL:
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


def test_further_seeds_of_a_run_count_as_runs_of_the_row(metrics: WriteMetrics) -> None:
    first = metrics("ge", seed=123, coco=30.0)
    further = metrics("ge-0", seed=0, coco=31.0)
    place = first.parent / "seeds" / "0" / first.name
    later = first.parent / "seeds" / "100" / first.name
    place.parent.mkdir(parents=True)
    further.rename(place)
    table = build_table(11, {"ge": [first, place, later]}, profile="mini", drawn=True)
    assert "GE: 2 of 3 runs." in table.notes


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
