"""Features of pictures and texts: those of the model, whether they are encoded or were kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import regroup.features
from regroup.errors import RegroupError
from regroup.features import image_features, square, text_features
from regroup.model import GroupViT
from regroup.segmentation.images import normalise

from .telling import small_telling_model

TEXTS = ["a red dog", "двa", "", "a very " * 100 + "long text", "a red dog"]


@pytest.fixture(scope="module")
def model() -> GroupViT:
    return small_telling_model(image_size=32, groups=(16, 8)).eval()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(7)]
    for number, path in enumerate(paths):
        size = (40 + number, 50, 3)
        Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
    return paths


def count(model: GroupViT, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the batches that the image tower encodes from now on."""
    seen: list[int] = []
    encode = type(model).encode_image

    def counting(self: GroupViT, pixels: torch.Tensor, **settings: Any) -> Any:
        seen.append(len(pixels))
        return encode(self, pixels, **settings)

    monkeypatch.setattr(type(model), "encode_image", counting)
    return seen


def test_they_are_the_models_own(model: GroupViT, pictures: list[Path]) -> None:
    found = image_features(model, pictures, size=32, batch=3)
    for path, feature in zip(pictures, found, strict=True):
        pixels = normalise(torch.from_numpy(square(path, 32).copy()).permute(2, 0, 1)[None])
        with torch.no_grad():
            expected = model.encode_image(pixels).feature[0]
        torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)
    texts = text_features(model, TEXTS)
    assert torch.equal(texts[0], texts[4])
    assert not torch.equal(texts[0], texts[1])
    assert (found.dtype, texts.dtype, len(texts)) == (torch.float32, torch.float32, 5)


def test_what_is_kept_is_what_was_found_and_is_not_encoded_again(
    model: GroupViT, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regroup.features, "BLOCK", 4)
    store, alone = tmp_path / "store", image_features(model, pictures, size=32, batch=2)
    seen = count(model, monkeypatch)
    first = image_features(model, pictures, size=32, batch=2, store=store)
    assert seen == [2, 2, 2, 1]
    again = image_features(model, pictures, size=32, batch=2, store=store)
    assert len(seen) == 4
    assert torch.equal(alone, first)
    assert torch.equal(first, again)
    assert torch.equal(text_features(model, TEXTS, store=store), text_features(model, TEXTS, store=store))


def test_a_block_that_is_missing_or_damaged_is_encoded_again_and_no_other(
    model: GroupViT, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regroup.features, "BLOCK", 4)
    store = tmp_path / "store"
    first = image_features(model, pictures, size=32, batch=2, store=store)
    kept = sorted(path for path in store.rglob("*") if path.is_file())
    assert len(kept) == 2
    kept[0].write_bytes(kept[0].read_bytes()[:-40] + bytes(40))
    seen = count(model, monkeypatch)
    assert torch.equal(image_features(model, pictures, size=32, batch=2, store=store), first)
    assert sum(seen) in (3, 4)


def test_a_block_under_the_name_of_another_is_encoded_again(
    model: GroupViT, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regroup.features, "BLOCK", 2)
    store = tmp_path / "store"
    first = image_features(model, pictures[:4], size=32, batch=2, store=store)
    one, other = sorted(path for path in store.rglob("*") if path.is_file())
    whole = one.read_bytes(), other.read_bytes()
    one.write_bytes(whole[1])
    other.write_bytes(whole[0])
    assert torch.equal(image_features(model, pictures[:4], size=32, batch=2, store=store), first)
    assert (one.read_bytes(), other.read_bytes()) == whole


def test_another_picture_other_weights_another_size_are_encoded(
    model: GroupViT, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    before = image_features(model, pictures, size=32, batch=8, store=store)
    Image.fromarray(np.zeros((40, 40, 3), dtype=np.uint8)).save(pictures[3])
    after = image_features(model, pictures, size=32, batch=8, store=store)
    assert [bool(torch.equal(a, b)) for a, b in zip(before, after, strict=True)].count(False) == 1
    other = small_telling_model(image_size=32, groups=(16, 8)).eval()
    with torch.no_grad():
        next(other.image_projector.parameters()).mul_(2)
    seen = count(model, monkeypatch)
    image_features(model, pictures, size=48, batch=8, store=store)
    assert seen == [7]
    assert not torch.equal(image_features(other, pictures, size=32, batch=8, store=store), after)
    assert torch.equal(image_features(model, pictures, size=32, batch=8, store=store), after)
    assert seen == [7, 7]


@pytest.mark.parametrize("changed", ["batch", "machine", "source_digest"])
def test_another_batch_machine_or_code_finds_nothing_kept(
    model: GroupViT, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """Each may give other last digits; the number of threads is part of the machine."""
    settings: dict[str, Any] = {"size": 32, "batch": 8, "store": tmp_path / "store"}
    image_features(model, pictures, **settings)
    seen = count(model, monkeypatch)
    image_features(model, pictures, **settings)
    assert seen == []
    if changed == "batch":
        settings["batch"] = 4
    else:
        monkeypatch.setattr(regroup.features, changed, lambda *_: "another")
    image_features(model, pictures, **settings)
    assert sum(seen) == 7


def test_bad_input_is_named_and_nothing_is_kept_of_it(
    model: GroupViT, pictures: list[Path], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    missing = tmp_path / "none.png"
    with pytest.raises(RegroupError, match=r"none\.png"):
        image_features(model, [*pictures, missing], size=32, batch=8, store=store)
    os.mkfifo(missing)  # read, it would be waited for
    with pytest.raises(RegroupError, match=r"none\.png: not a file"):
        image_features(model, [*pictures, missing], size=32, batch=8, store=store)
    with pytest.raises(RegroupError, match="size: 36 pixels are not whole patches of 8"):
        image_features(model, pictures, size=36, batch=8, store=store)
    pictures[2].write_bytes(b"no picture")
    with pytest.raises(RegroupError, match=r"2\.png"):
        image_features(model, pictures, size=32, batch=8, store=store)
    broken = small_telling_model(image_size=32, groups=(16, 8)).eval()
    with torch.no_grad():
        next(broken.image_projector.parameters()).fill_(float("nan"))
    with pytest.raises(RegroupError, match="features of images are not finite"):
        image_features(broken, pictures[:2], size=32, batch=8, store=store)
    assert not [path for path in store.rglob("*") if path.is_file()]


def test_no_pictures_and_no_texts_have_no_features(model: GroupViT) -> None:
    assert image_features(model, [], size=32, batch=8).shape == (0, model.config.joint_width)
    assert text_features(model, []).shape == (0, model.config.joint_width)
