"""`regroup checkpoint random`: weights that know nothing, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regroup.backbones import load_checkpoint
from regroup.cli import main
from regroup.model import GroupViT, save_checkpoint


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["checkpoint", "random", *map(str, words)])
    return int(end.value.code or 0)


def test_a_seed_gives_the_same_weights_of_the_sizes_asked_for(tmp_path: Path, model: GroupViT) -> None:
    save_checkpoint(model, tmp_path / "like")
    config = tmp_path / "like/config.json"
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert command(tmp_path / name, "--config", config, "--seed", seed) == 0
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b != c
    assert load_checkpoint(tmp_path / "a").config == model.config


@pytest.mark.parametrize(
    ("content", "words", "complaint"),
    [
        ("{", [], "not valid JSON"),
        ('{"architecture": "resnet"}', [], "architecture: "),
        (json.dumps({"architecture": "groupvit", "image": {"width": -3}}), [], "width"),
        (None, [], "no such file"),
        ("{}", ["--seed", "-1"], "argument --seed: '-1' is not possible"),
    ],
)
def test_nonsense_is_refused(
    tmp_path: Path,
    content: str | None,
    words: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert command(tmp_path / "out", "--config", tmp_path / "config.json", *words) == 2
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("x")
    assert command(tmp_path) == 2
    assert "name one that is new or empty" in capsys.readouterr().err
