"""Class embeddings on disk: the very numbers of the text tower, for these weights and these prompts only."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from regroup.model import GroupViT
from regroup.segmentation.evaluation import evaluate
from regroup.segmentation.prompts import embed_prompts
from regroup.segmentation.resolved import resolve_dataset
from regroup.segmentation.settings import DatasetParams, InferenceParams

PROMPTS = ("a photo of a dog.", "a photo of a red car.")


def test_the_text_tower_runs_once(model: GroupViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = embed_prompts(model, PROMPTS, tmp_path)
    assert torch.equal(first, embed_prompts(model, PROMPTS))

    def refuse(tokens: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the text tower ran again")

    monkeypatch.setattr(model, "encode_text", refuse)
    assert torch.equal(first, embed_prompts(model, PROMPTS, tmp_path))
    for other in (PROMPTS[::-1], ("a photo of a dog.",), ("art of the dog.", PROMPTS[1])):
        with pytest.raises(AssertionError, match="ran again"):
            embed_prompts(model, other, tmp_path)


def test_other_weights_of_the_text_side_are_another_entry(model: GroupViT, tmp_path: Path) -> None:
    embed_prompts(model, PROMPTS, tmp_path)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.text_projector.norm.running_mean += 1  # a statistic, no parameter
    found = embed_prompts(changed, PROMPTS, tmp_path)
    assert torch.equal(found, embed_prompts(changed, PROMPTS))
    assert not torch.equal(found, embed_prompts(model, PROMPTS))
    assert len(list(tmp_path.iterdir())) == 2
    with torch.no_grad():
        changed.image.positions += 1
    embed_prompts(changed, PROMPTS, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2, "the image side does not matter"


def test_a_broken_file_is_made_again(model: GroupViT, tmp_path: Path) -> None:
    embed_prompts(model, PROMPTS, tmp_path)
    [file] = tmp_path.iterdir()
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-60] ^= 1  # a number's lowest digit: the file still reads as a table of tensors
    for broken in (b"", whole[:40], whole[: len(whole) // 2], flipped):
        file.write_bytes(broken)
        assert torch.equal(embed_prompts(model, PROMPTS, tmp_path), embed_prompts(model, PROMPTS))
        assert file.read_bytes() == whole


def test_many_at_once_leave_one_whole_file(model: GroupViT, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: embed_prompts(model, PROMPTS, tmp_path), range(8)))
    assert all(torch.equal(one, found[0]) for one in found)
    assert len(list(tmp_path.iterdir())) == 1


def test_scores_are_the_same_with_it(model: GroupViT, voc: Path, tmp_path: Path) -> None:
    dataset = DatasetParams(source="voc12", protocol="voc", threshold=0.1, limit=2)
    params = InferenceParams(short_side=48, window=48, stride=24)
    cache = tmp_path / "cache"
    scores = [
        evaluate(model, resolve_dataset(dataset, voc), params, text_cache=where)
        for where in (None, cache, cache)
    ]
    assert len({one.miou for one in scores}) == 1
    assert len(list(cache.iterdir())) == 1
