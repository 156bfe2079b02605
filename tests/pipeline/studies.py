"""A study for tests: two files in a folder of a project."""

from __future__ import annotations

from pathlib import Path

VARIANTS = """
variants:
  captions:
    title: Captions alone
    labels: {source: none, count: 0}
    objectives: [{name: contrastive}]
    rows: [{table: 1, row: captions}]
borrowed:
  original: {study: thesis, variant: original, rows: [{table: 1, row: original}]}
"""


CLIP = """
variants:
  clip: {title: CLIP, checkpoint: clip, trainable: nothing}
"""


BORROWED_CLIP = "  lent: {study: other, variant: clip}\n"


TABLES = """
about: What captions alone do.
tables:
  - number: 1
    title: Captions
    setting: 30 epochs
    labels: [Model]
    columns: [coco, voc]
    rows:
      - {id: original, labels: [Original], trained: false}
      - {id: captions, labels: [Captions alone]}
"""


READ = ("pretrain/groupvit-mini/config.json", "src/regroup/dino/stand_in.py")
"""What the parameters point at."""


PIPELINE = Path("studies/mine/dvc.yaml")


PARAMS = Path("studies/mine/params.yaml")


def add_study(root: Path, name: str, variants: str = VARIANTS) -> None:
    folder = root / "studies" / name
    folder.mkdir()
    (folder / "variants.yaml").write_text(variants)
    (folder / "tables.yaml").write_text(TABLES)
