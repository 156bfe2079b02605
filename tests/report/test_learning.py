"""The lines of Figure 24: a variant with all its seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from regroup.errors import RegroupError
from regroup.report.learning import draw_learning, read_lines
from regroup.scoring.validation import VALIDATION, write_validation


def make_curve(folder: Path, *miou: float) -> None:
    rows = [{"step": 10.0 * k, "epoch": 0.5 * k, "val_coco": value} for k, value in enumerate(miou, 1)]
    write_validation(folder / VALIDATION, rows)


def test_a_line_has_every_seed_of_its_variants(tmp_path: Path) -> None:
    for place, miou in (
        ("ge", (1.0, 2.0)),
        ("ge/seeds/0", (3.0, 5.0)),
        ("ge/seeds/100", (2.0, 2.0)),
        ("le", (9, 9)),
    ):
        make_curve(tmp_path / place, *miou)
    lines = read_lines({"GE": ["ge"], "both": ["ge", "le"]}, tmp_path, "coco")
    assert lines["GE"].epochs.tolist() == [0.5, 1.0]
    assert lines["GE"].miou.tolist() == [[1.0, 2.0], [3.0, 5.0], [2.0, 2.0]]
    assert len(lines["both"].miou) == 4
    drawn = draw_learning({"A": lines}, 1.0, dataset="coco", profile="mini", drawn=True)
    assert np.array_equal(drawn.data["1: GE: mIoU"], lines["GE"].miou)


def test_a_seed_without_a_curve_or_with_other_points_is_named(tmp_path: Path) -> None:
    make_curve(tmp_path / "ge", 1.0, 2.0)
    make_curve(tmp_path / "ge/seeds/0", 1.0)
    with pytest.raises(RegroupError, match="ge have points at different epochs"):
        read_lines({"GE": ["ge"]}, tmp_path, "coco")
    (tmp_path / "ge/seeds/0/validation.parquet").unlink()
    with pytest.raises(
        RegroupError, match=r"seeds/0/validation.parquet: no such file; evaluate that variant"
    ):
        read_lines({"GE": ["ge"]}, tmp_path, "coco")
