"""The dissection's scores as files: one a row of Tables 1 and 2, and a table of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regroup.drawing.grid import csv_text, markdown_text
from regroup.drawing.labelling import table_note
from regroup.io import sha256, write_text
from regroup.metrics import write_rows
from regroup.model.weights import find_weights
from regroup.segmentation.scores import DatasetScores

COLUMNS = ("checkpoint", "dataset", "analysis", "background", "K", "mIoU")


def write_dissection(
    scores: Mapping[str, Mapping[str, DatasetScores]],
    folder: Path,
    *,
    variant: str,
    profile: str,
    drawn: bool,
    checkpoint: Path,
) -> list[Path]:
    """Write `<analysis>.json` of each analysis, in the form of a metrics file, `dissection.csv` and `.md`.

    Args:
        scores: analysis (`k10`, `alignment`, ...) -> dataset -> scores.
        folder: where to.
        variant: name of the checkpoint.
        profile: name of the profile.
        drawn: whether its data is drawn; the Markdown then says so.
        checkpoint: the weights, whose digest is written.
    """
    analyses = {
        name: {dataset: one.for_metrics() for dataset, one in datasets.items()}
        for name, datasets in scores.items()
    }
    weights = sha256(find_weights(checkpoint))
    paths = write_rows(analyses, folder, variant=variant, profile=profile, checkpoint=weights)
    rows = _rows(scores, variant)
    table, markdown = folder / "dissection.csv", folder / "dissection.md"
    write_text(table, csv_text([COLUMNS, *rows]))
    write_text(markdown, format_dissection(rows, profile=profile, drawn=drawn))
    return [*paths, table, markdown]


def _rows(scores: Mapping[str, Mapping[str, DatasetScores]], variant: str) -> list[tuple[str, ...]]:
    return [
        (
            variant,
            dataset,
            str(one.protocol["analysis"]),
            str(one.protocol.get("background_region", "yes" if one.protocol["background"] else "no")),
            str(one.protocol.get("neighbours", "")),
            f"{one.miou:.2f}",
        )
        for datasets in scores.values()
        for dataset, one in datasets.items()
    ]


def format_dissection(rows: list[tuple[str, ...]], *, profile: str, drawn: bool) -> str:
    """The rows as a Markdown table."""
    lines = [f"# Grouping and alignment, each on its own ({profile})", ""]
    table = (COLUMNS, ("---",) * 4 + ("---:",) * 2, *rows)
    lines += [f"| {' | '.join(map(markdown_text, cells))} |" for cells in table]
    lines += [
        "",
        "mIoU in percent (section 5.4). Without background, its pixels are not scored; where it is given, "
        "its region is labelled as such, whatever the model calls it.",
    ]
    if note := table_note(profile, drawn=drawn, printed=False):
        lines += ["", note]
    return "\n".join(lines) + "\n"


def by_analysis(
    scores: Mapping[str, Mapping[str, DatasetScores]],
) -> dict[str, dict[str, DatasetScores]]:
    """Dataset -> analysis -> scores turned into analysis -> dataset -> scores."""
    turned: dict[str, dict[str, DatasetScores]] = {}
    for dataset, analyses in scores.items():
        for name, one in analyses.items():
            turned.setdefault(name, {})[dataset] = one
    return turned
