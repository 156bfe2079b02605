"""A small project with reports to make a page of."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from regroup.report.table_view import write_table
from regroup.report.what_moved import write_what_moved
from tests.thesis import build_table, check_claims, copy_project

from .made_metrics import make_metrics

ROOT = Path(__file__).parents[2]
ODD = "<script>alert(1)</script>"
"""A caption that would be code, were it not escaped."""


def make_project(root: Path) -> None:
    """Parameters, the graph, a lock, and the reports of two runs."""
    copy_project(root, "dvc.yaml")
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    no_scm = true\n")
    (root / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  page:\n    cmd: python stages/page.py\n    outs:\n"
        "    - {path: reports/mini/page.html, md5: 0cc175b9c0f1b6a831c399e269772661, size: 1}\n"
    )
    report = root / "reports" / "mini"
    for folder in ("metrics", "tables", "figures", "curves"):
        (report / folder).mkdir(parents=True)
    runs = {}
    for row, name, coco, voc in (("original", "original", 9.5, 44.0), ("ge", "ge-384", 31.0, 40.25)):
        scores = {"coco": {"miou": coco}, "voc": {"miou": voc}}
        runs[row] = [make_metrics(report / "metrics", name, scores)]
    for number in (5, 11):
        table = build_table(number, runs if number == 11 else {}, profile="mini", drawn=True)
        write_table(table, report / "tables", data=report / "table_data")
    moved = check_claims({11: runs}, profile="mini", drawn=True)
    write_what_moved(moved, report / "tables", data=report / "table_data")
    for k, name in enumerate(("panel", "bars")):
        Image.new("RGB", (800, 500), (40, 90 + 60 * k, 160)).save(report / "figures" / f"{name}.png")
    about = {"title": "What is seen", "caption": ODD, "thesis": [12, 13], "profile": "mini"}
    (report / "figures" / "panel.json").write_text(json.dumps(about))
    (report / "curves" / "ge-384.csv").write_text("step,epoch,loss\n5,1,4.0\n10,2,3.0\n15,3,2.5\n")
    validation = report / "metrics" / "segmentation" / "ge-384" / "validation.csv"
    validation.write_text("step,epoch,val_coco\n10,2,20\n15,3,25\n")
    (report / "curves" / "original.csv").write_text("step,epoch,loss\n")
