"""The thesis's values as data: completeness, control totals, rows that are printed more than once."""

from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.report.reference import ReferenceRow, RowRef, load_reference
from tests.thesis import thesis

# Rows and column sums of each printed table, added up from the thesis itself.
CONTROL = {
    1: (4, [238.75]),
    2: (4, [207.70]),
    3: (9, [226.71, 447.57, 199.03, 72.22]),
    4: (3, [78.01, 147.69, 64.98, 23.09]),
    5: (6, [155.99, 301.88, 132.05, 47.21]),
    6: (3, [76.14, 149.92, 65.60, 23.81]),
    7: (3, [76.14, 149.92, 65.60, 23.81]),
    8: (3, [74.87, 144.77, 64.78, 21.08]),
    9: (9, [236.77, 453.06, 199.80, 69.28]),
    10: (5, [133.46, 251.57, 108.94, 39.47]),
    11: (4, [107.65, 205.98, 88.80, 31.98]),
    12: (8, [229.62, 434.38]),
    13: (4, [62.46, 110.60, 24.54, 8.69]),
    14: (2, [50.17, 94.64, 41.90, 14.74]),
    33: (4, [1.28, 36.5]),  # not one of the thesis's: numbers of its text
}


def test_every_table_is_there() -> None:
    """Tables of one's own come behind the thesis's."""
    assert [table.number for table in thesis().tables][: len(CONTROL)] == list(CONTROL)


@pytest.mark.parametrize("number", CONTROL)
def test_rows_and_column_sums_are_the_thesis_s(number: int) -> None:
    table = thesis().table(number)
    rows, sums = CONTROL[number]
    assert len(table.rows) == rows
    columns = zip(*(row.values for row in table.rows), strict=True)
    assert [sum(v for v in column if v is not None) for column in columns] == pytest.approx(sums, abs=1e-6)


def test_rows_printed_twice_agree_except_where_declared() -> None:
    checked = 0
    for table in thesis().tables:
        for row in table.rows:
            if row.same_as is None:
                continue
            first = thesis().table(row.same_as.table)
            for column in set(table.columns) & set(first.columns):
                here, there = table.value(row.id, column), first.value(row.same_as.row, column)
                assert (here != there) == (column in row.same_as.differs), f"{table.number} {row.id} {column}"
                checked += 1
    assert checked > 40


def test_the_original_is_one_experiment_in_eight_tables() -> None:
    shared = thesis().shared(RowRef(table=11, row="original"))
    assert [ref.table for ref in shared] == [1, 3, 5, 6, 7, 9, 10, 11]
    assert {ref.row for ref in shared} == {"original"}


def test_batch_256_is_also_two_blocks() -> None:
    shared = thesis().shared(RowRef(table=13, row="blocks2_tokens8"))
    assert [str(ref) for ref in shared] == ["table 4, row batch_256", "table 13, row blocks2_tokens8"]


def test_table_12_contains_the_cells_of_table_11() -> None:
    last, sweep = thesis().table(11), thesis().table(12)
    assert sweep.value("res448_bg90", "coco") == last.value("noise_free_ge", "coco")
    assert sweep.value("res448_bg95", "voc") == last.value("noise_free_ge", "voc")


def test_spread_is_the_root_of_the_printed_variance() -> None:
    table = thesis().table(5)
    assert table.std("np_nouns_5", "coco") == pytest.approx(0.2149, abs=1e-4)
    assert table.std("caption", "voc") == pytest.approx(0.2773, abs=1e-4)
    assert table.std("nouns_3", "coco") is None


def test_only_the_pretrained_checkpoint_is_untrained() -> None:
    untrained = {(t.number, r.id) for t in thesis().tables for r in t.rows if not r.trained}
    assert {row for number, row in untrained if number > 2} == {"original"}
    assert {number for number, _ in untrained} == {1, 2, 3, 5, 6, 7, 9, 10, 11}


ROW = "{id: a, labels: [A], values: [1.0]}"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("{id: a, labels: [A], valuse: [1.0]}", "did you mean `values`"),
        ("{id: a, labels: [A], values: [1.0, 2.0]}", "row a: values: 2 given, 1 columns"),
        ("{id: a, labels: [A], values: [101.0]}", "row a: voc: 101.0 is no percentage"),
        (f"{ROW}, {ROW}", "row a is listed twice"),
        ("{id: a, labels: [A], values: [1.0], same_as: {table: 1, row: b}}", "there is no table 1, row b"),
        ("{id: a, labels: [A], values: [1.0], runs: 3}", "`runs` above 1 and `variance` go together"),
    ],
)
def test_faults_in_a_reference_file_are_named(tmp_path: Path, rows: str, message: str) -> None:
    file = tmp_path / "reference.yaml"
    file.write_text(
        "tables:\n  - {number: 1, section: '1', title: T, setting: S, labels: [L], columns: [voc], "
        f"rows: [{rows}]}}\n"
    )
    with pytest.raises(RegroupError, match=r"reference\.yaml: .*") as error:
        load_reference(file)
    assert message in str(error.value)
    assert "at least 1 item" not in str(error.value)  # the list is not short, an entry of it is wrong


def test_unknown_tables_and_rows_list_what_there_is() -> None:
    with pytest.raises(RegroupError, match="there is no table 90; there are 1, 2"):
        thesis().table(90)
    with pytest.raises(RegroupError, match="table 14: no row is called 'ge'; its rows are dino, no_dino"):
        thesis().table(14).row("ge")


def test_rows_are_frozen() -> None:
    row: ReferenceRow = thesis().table(1).rows[0]
    with pytest.raises(ValueError, match="frozen"):
        row.values = (0.0,)


def test_a_run_given_for_one_row_fills_every_row_of_its_experiment() -> None:
    original, ge = Path("original.json"), Path("ge.json")
    filled = thesis().fill([(11, "original", original), (3, "original", original), (11, "ge", ge)])
    assert {number for number, rows in filled.items() if "original" in rows} == {1, 3, 5, 6, 7, 9, 10, 11}
    assert all(rows["original"] == [original] for rows in filled.values() if "original" in rows)
    assert filled[10]["ge"] == filled[11]["ge"] == [ge]
    assert filled[9] == {"original": [original]}
