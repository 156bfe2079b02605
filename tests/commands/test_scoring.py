"""What is read of a profile's data: folders that the user gives are never called drawn."""

from __future__ import annotations

from pathlib import Path

from regroup.commands.scoring import any_drawn
from regroup.params import load_params

ROOT = Path(__file__).parents[2]


def test_only_what_was_read_of_the_drawn_world_is_called_drawn() -> None:
    params = load_params(ROOT / "params.yaml")
    assert any_drawn(params, ["coco", "voc12"], {})
    assert any_drawn(params, ["coco", "voc12"], {"coco"})
    assert not any_drawn(params, ["coco", "voc12"], {"coco", "voc12"})
    real = params.sources | {"coco": params.sources["coco"].model_copy(update={"kind": "download"})}
    assert not any_drawn(params.model_copy(update={"sources": real}), ["coco"], {})
