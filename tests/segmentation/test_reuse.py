"""Stage-one tokens on disk change no score, and save the first stage's work."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

from regroup.model import GroupViT
from regroup.segmentation.evaluation import evaluate_all
from regroup.segmentation.reuse import reused_stage_one
from regroup.segmentation.settings import DatasetParams, EvaluateParams

PARAMS = EvaluateParams(
    short_side=48,
    window=48,
    stride=24,
    datasets={"voc": DatasetParams(source="voc12", protocol="voc", threshold=0.1)},
)


def counted(model: GroupViT, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Lengths of the batches that the first transformer block sees from now on."""
    seen: list[int] = []
    block = model.image.stages[0].blocks[0]
    run = block.forward

    def forward(x: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(len(x))
        return run(x, *rest)

    monkeypatch.setattr(block, "forward", forward)
    return seen


def test_scores_are_the_same_and_the_first_stage_runs_once(
    model: GroupViT, voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = evaluate_all(model, PARAMS, {"voc12": voc}).datasets["voc"]
    seen = counted(model, monkeypatch)
    kept = tmp_path / "tokens"
    first = evaluate_all(model, PARAMS, {"voc12": voc}, token_cache=kept).datasets["voc"]
    worked = len(seen)
    again = evaluate_all(model, PARAMS, {"voc12": voc}, token_cache=kept).datasets["voc"]
    assert 0 < worked == len(seen)
    for found in (first, again):
        assert np.array_equal(found.confusion, plain.confusion)
        assert found.miou == plain.miou
    # another second stage shares the first; another first stage does not
    variant = copy.deepcopy(model)
    with torch.no_grad():
        variant.image.stages[0].grouping.assignment.key.weight.neg_()
    seen = counted(variant, monkeypatch)
    shared = evaluate_all(variant, PARAMS, {"voc12": voc}, token_cache=kept).datasets["voc"]
    assert not seen
    assert shared.miou == evaluate_all(variant, PARAMS, {"voc12": voc}).datasets["voc"].miou
    assert shared.miou != plain.miou
    seen.clear()
    with torch.no_grad():
        variant.image.stages[0].group_tokens += 1
    other = evaluate_all(variant, PARAMS, {"voc12": voc}, token_cache=kept).datasets["voc"]
    assert seen
    assert other.miou == evaluate_all(variant, PARAMS, {"voc12": voc}).datasets["voc"].miou


def test_a_broken_entry_is_made_again(model: GroupViT, tmp_path: Path) -> None:
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode(), reused_stage_one(model, tmp_path):
        first = model.encode_image(pixels).feature
        [file] = [path for path in tmp_path.rglob("*") if path.is_file()]
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[-60] ^= 1  # a number's lowest digit: the file still reads as a table of tensors
        for broken in (b"", whole[: len(whole) // 2], flipped):
            file.write_bytes(broken)
            assert torch.equal(model.encode_image(pixels).feature, first)
            assert file.read_bytes() == whole
    with torch.inference_mode():
        assert torch.equal(model.encode_image(pixels).feature, first)


def test_only_a_few_first_stages_are_kept(model: GroupViT, tmp_path: Path) -> None:
    pixels = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    changed = copy.deepcopy(model)
    for _ in range(4):
        with torch.no_grad():
            changed.image.stages[0].group_tokens += 1
        with torch.inference_mode(), reused_stage_one(changed, tmp_path):
            changed.encode_image(pixels)
    [same_code] = tmp_path.iterdir()
    assert len(list(same_code.iterdir())) == 2


def test_other_code_finds_nothing_and_clears_up(
    model: GroupViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    seen = counted(model, monkeypatch)
    for version, runs in (("old", 1), ("old", 1), ("new", 2)):
        monkeypatch.setattr("regroup.segmentation.reuse.made_by", lambda model, version=version: (version,))
        with torch.inference_mode(), reused_stage_one(model, tmp_path):
            model.encode_image(pixels)
        assert len(seen) == runs
        assert len(list(tmp_path.iterdir())) == 1
