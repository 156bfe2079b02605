"""Tables of any metric of any task: columns by short name, runs scored on several tasks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.metrics import Metric, read_metrics
from regroup.report.checked import check_claims
from regroup.report.claims import load_claims
from regroup.report.columns import Place, column_title
from regroup.report.reference import load_reference
from regroup.report.scores_view import write_scores
from regroup.report.table_view import format_console, write_table
from regroup.report.tables import build_table
from regroup.report.verify import read_scores

from .made_metrics import make_metrics

TABLES = """\
tables:
  - number: 21
    section: "1"
    title: Captions
    setting: None
    labels: [Loss]
    columns: [coco, retrieval/text_r1/coco, retrieval/text_median/coco, retrieval/coco]
    titles: {retrieval/text_r1/coco: "text R@1"}
    rows:
      - {id: con, labels: [Contrastive], values: [24.0, 50.0, 250.0, null]}
      - {id: nf, labels: [Noise-free], values: [null, null, null, null]}
"""


@pytest.fixture
def retrieval(tmp_path: Path) -> Callable[[str, float, float], Path]:
    """Write a metrics file of retrieval beside those of segmentation."""

    def write(name: str, recall: float, median: float) -> Path:
        return make_metrics(
            tmp_path / "metrics",
            name,
            {"coco": {"text_r1": recall, "text_median": median}},
            task="retrieval",
            metrics={
                "text_r1": Metric(title="text R@1"),
                "text_median": Metric(title="text median rank", unit="rank"),
            },
            protocol="captions",
            chance={"text_r1": 0.206},
        )

    return write


def test_a_column_is_a_dataset_or_a_path() -> None:
    assert Place.of("voc") == Place("segmentation", "miou", "voc")
    assert Place.of("retrieval/coco") == Place("retrieval", None, "coco")
    assert Place.of("retrieval/text_r1/coco") == Place("retrieval", "text_r1", "coco")
    assert [column_title(c) for c in ("voc", "retrieval/text_r1/coco")] == ["PVOC", "COCO text_r1"]


def test_a_table_has_metrics_of_several_tasks(
    metrics: Callable[..., Path], retrieval: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "tables.yaml").write_text(TABLES)
    reference = load_reference(tmp_path / "tables.yaml")
    rows = {
        "con": [metrics("con", coco=25.0), retrieval("con", 40.0, 300.0)],
        "nf": [
            *(metrics(f"nf-{k}", coco=30.0 + k) for k in range(2)),
            *(retrieval(f"nf-{k}", 60.0 + 2 * k, 7.0) for k in range(2)),
        ],
    }
    table = build_table(21, rows, profile="mini", drawn=False, reference=reference)
    write_table(table, tmp_path)
    text = (tmp_path / "table21.md").read_text()
    assert (
        "| Contrastive | 24.00 | 25.00 | +1.00 | 50.00 | 40.00 | -10.00 | 250.00 | 300.00 | +50.00 |" in text
    )
    assert "30.50 ± 0.71" in text
    assert "61.00 ± 1.41" in text
    assert "missing" not in text
    assert "text R@1, COCO retrieval in percent" in text
    assert "; COCO text_median in places from 1" in text
    assert "Protocols: COCO voc, text R@1 captions" in text
    assert "By chance alone: text R@1 0.21; COCO retrieval 0.21." in text
    assert not any("of 2 runs" in note for note in table.notes)
    assert "text R@1" in format_console(table)
    # a seed that was not scored on one of the tasks
    rows["nf"][3].unlink()
    part = build_table(21, rows, profile="mini", drawn=True, reference=reference)
    assert part.rows[1].cells[0].ours.runs == 2
    assert part.rows[1].cells[1].ours.runs == 1


def test_where_nothing_is_published_a_column_is_called_by_its_title_alone(
    metrics: Callable[..., Path], retrieval: Callable[..., Path], tmp_path: Path
) -> None:
    own = "\n".join(
        line.partition(", values:")[0] + "}" * (", values:" in line) for line in TABLES.split("\n")
    )
    (tmp_path / "tables.yaml").write_text(own)
    reference = load_reference(tmp_path / "tables.yaml")
    table = build_table(
        21, {"con": [metrics("con", coco=25.0)]}, profile="mini", drawn=True, reference=reference
    )
    texts = {path.suffix: path.read_text() for path in write_table(table, tmp_path)}
    assert "| Loss | COCO | text R@1 | COCO text_median | COCO retrieval |\n" in texts[".md"]
    assert "Loss & COCO & text R@1 & COCO text\\_median & COCO retrieval \\\\\n" in texts[".tex"]
    assert '"groups": []' in texts[".json"]
    assert all("Table 21 (mini)" in texts[suffix] for suffix in (".md", ".tex", ".json"))


def test_claims_may_be_about_any_column(
    metrics: Callable[..., Path], retrieval: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "tables.yaml").write_text(TABLES)
    reference = load_reference(tmp_path / "tables.yaml")
    (tmp_path / "claims.yaml").write_text(
        "margin: 0.5\nclaims:\n  - {id: c, table: 21, section: '1', text: T, rows: [nf], to: [con], "
        "relation: higher, columns: [retrieval/text_r1/coco]}\n"
    )
    claims = load_claims(tmp_path / "claims.yaml", reference=reference)
    rows = {
        "con": [metrics("con", coco=25.0), retrieval("con", 40.0, 300.0)],
        "nf": [retrieval(f"nf-{k}", 60.0 + 2 * k, 7.0) for k in range(3)],
    }
    (result,) = check_claims(
        {21: rows}, profile="mini", drawn=True, claims=claims, reference=reference
    ).results
    assert result.ours == "agree"
    (tmp_path / "claims.yaml").write_text(
        (tmp_path / "claims.yaml").read_text().replace("text_r1/coco", "text_r1/voc")
    )
    with pytest.raises(RegroupError, match="claim c: table 21 has no retrieval/text_r1/voc"):
        load_claims(tmp_path / "claims.yaml", reference=reference)


def test_a_column_that_means_nothing_is_refused(tmp_path: Path) -> None:
    for wrong in ("a/b/c/d", "/coco", "Coco", "retrieval/"):
        (tmp_path / "tables.yaml").write_text(TABLES.replace("[coco, ", f"[{wrong}, "))
        with pytest.raises(RegroupError, match=r"columns\.0: a column is DATASET \(its mIoU\), TASK/DATASET"):
            load_reference(tmp_path / "tables.yaml")
    (tmp_path / "tables.yaml").write_text(TABLES.replace("titles: {", "titles: {voc: V, "))
    with pytest.raises(RegroupError, match="titles: no column voc"):
        load_reference(tmp_path / "tables.yaml")


def test_scores_of_all_tasks_are_one_file_that_can_be_verified(
    metrics: Callable[..., Path], retrieval: Callable[..., Path], tmp_path: Path
) -> None:
    """Percentages alone: a median rank is none. mIoU stands where it stands without other tasks."""
    folder = metrics("ge", coco=30.126, birds=5.0).parents[2]
    retrieval("ge", 40.5, 12.0)
    retrieval("new", 10.0, 12.0)
    write_scores(folder, ["retrieval", "segmentation"], ["ge", "new"], tmp_path, profile="mini")
    text = (tmp_path / "scores.csv").read_text()
    assert text.splitlines() == [
        "variant,seed,coco,voc,context,ade,birds,retrieval/text_r1/coco",
        "ge,,30.13,,,,5.0,40.5",
        "new,,,,,,,10.0",
    ]
    assert read_scores(text, "scores.csv")["new", "retrieval/text_r1/coco"] == 10.0


def test_a_metrics_file_has_no_value_without_a_meaning(retrieval: Callable[..., Path]) -> None:
    file = retrieval("ge", 40.5, 120.0)
    assert read_metrics(file, profile="mini").flat() == {
        "coco/text R@1": 40.5,
        "coco/text median rank": 120.0,
    }
    for old, new, message in (
        ('"text_r1": 40.5', '"text_r2": 40.5', "datasets.coco.values.text_r2: no such metric"),
        ('"main": "text_r1"', '"main": "r1"', "main: no metric 'r1'"),
        ("40.5", "-0.5", "datasets.coco.values.text_r1: -0.5 is no percent"),
        ('"unit": "rank"', '"unit": "percent"', "text_median: 120.0 is no percent"),
    ):
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        with pytest.raises(RegroupError) as error:
            read_metrics(file, profile="mini")
        assert message in str(error.value)
        file.write_text(text)
