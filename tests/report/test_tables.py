"""Tables built from metrics files: numbers, missing runs, seeds, labels of the profile, bytes."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.drawing.grid import markdown, read_grid
from regroup.errors import RegroupError
from regroup.metrics import metrics_files, task_folder
from regroup.report.comparison import Spread, Spreads, Verdict
from regroup.report.scores_view import write_scores, write_summary
from regroup.report.table_view import format_console, write_table
from regroup.settings import read_yaml
from tests.thesis import build_table, thesis

from .made_metrics import make_metrics, read_csv

ALL = range(1, 15)

WriteMetrics = Callable[..., Path]


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


def test_scores_have_a_line_a_seed_and_means_a_line_a_variant(tmp_path: Path) -> None:
    folder = tmp_path / "metrics/segmentation"
    for place, seed, coco in (
        ("ge", 123, 30.0),
        ("ge/seeds/20", 20, 31.0),
        ("ge/seeds/0", 0, 33.5),
        ("o", None, 9.0),
    ):
        make_metrics(tmp_path / "metrics", place, {"coco": {"miou": coco}}, seed=seed)
    write_scores(
        tmp_path / "metrics", ["segmentation"], ["o", "ge"], tmp_path, profile="mini", data=tmp_path / "data"
    )
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[1:] == ["o,,9.0,,,", "ge,123,30.0,,,", "ge,0,33.5,,,", "ge,20,31.0,,,"]
    means = (tmp_path / "data/means.csv").read_text().splitlines()
    assert means == ["variant,runs,coco,voc,context,ade", "o,1,9.00,,,", "ge,3,31.50,,,"]
    # a row of the table has them all, and knows how many there are to be
    files = metrics_files(folder / "ge")
    assert [file.parent.name for file in files] == ["ge", "0", "20"]
    assert {task_folder(file) for file in files} == {folder}
    table = build_table(11, {"ge": files}, profile="mini", drawn=True)
    cell = next(row for row in table.rows if row.id == "ge").cells[0]
    assert cell.ours is not None
    assert (cell.ours.mean, cell.ours.runs) == (31.5, 3)
    assert not any("of 3" in note for note in table.notes)


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


def test_further_seeds_of_a_run_count_as_runs_of_the_row(metrics: WriteMetrics) -> None:
    first = metrics("ge", seed=123, coco=30.0)
    further = metrics("ge-0", seed=0, coco=31.0)
    place = first.parent / "seeds" / "0" / first.name
    later = first.parent / "seeds" / "100" / first.name
    place.parent.mkdir(parents=True)
    further.rename(place)
    table = build_table(11, {"ge": [first, place, later]}, profile="mini", drawn=True)
    assert "GE: 2 of 3 runs." in table.notes
