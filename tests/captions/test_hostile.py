"""Bad captions and strange images from raw files to training batches: nothing is dropped unseen."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regroup.captions.labels import extract_labels
from regroup.captions.reader import CaptionReader
from regroup.captions.sampling import LabelSampler
from regroup.captions.settings import NounsParams, ShardsParams
from regroup.captions.shards import build_shards
from regroup.captions.table import LABELS, LabelTable
from regroup.captions.verify import verify_shards
from regroup.errors import RegroupError
from regroup.training.augmentation import Augmentation

from .conftest import write_coco


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pictures() -> dict[str, bytes]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    return {
        "plain": encoded(noise),
        "grey": encoded(noise.convert("L")),
        "cmyk": encoded(noise.convert("CMYK")),
        "exif": encoded(noise, exif=turned),
        "pixel": encoded(noise.crop((0, 0, 1, 1))),
        "png": encoded(noise.convert("P"), "PNG"),  # called .jpg, as some of the web's are
        "truncated": encoded(noise)[:-300],
    }


CAPTIONS = ("a dog 🐕 and a 犬 on grass", "a cat\non a\r\n\ttable\n", "a big red bus " * 715, "")
PICTURES = pictures()
GOOD = [n for n, name in enumerate(PICTURES, start=1) if name != "truncated"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each picture with all captions, and one picture with none."""
    root = tmp_path_factory.mktemp("hostile")
    images = dict(enumerate(PICTURES.values(), start=1))
    write_coco(
        root / "coco",
        {**dict.fromkeys(images, CAPTIONS), 99: ()},
        {**images, 99: PICTURES["plain"]},
    )
    extract_labels(root / "coco", root / "captions", NounsParams())
    return root


@pytest.mark.parametrize("short_side", [None, 24])
def test_every_image_and_caption_reaches_training_or_is_named(folder: Path, short_side: int | None) -> None:
    assert max(map(len, CAPTIONS)) > 10_000
    shards = folder / f"shards-{short_side}"
    report = build_shards(folder / "coco", shards, ShardsParams(images_per_shard=3, short_side=short_side))
    assert (report.images, report.captions, report.images_without_caption) == (8, 28, 1)
    assert report.unreadable == (() if short_side is None else ("000000000007.jpg",))
    assert verify_shards(shards).problems == ()

    table = LabelTable.open(folder / "captions" / LABELS)
    reader = CaptionReader(shards, seed=0, batch_size=7, transform=Augmentation(16))
    reader.check_labels(table)
    sampler = LabelSampler(table, count=3)
    seen: list[int] = []
    for batch in reader.epoch(0):
        assert batch.images.shape == (len(batch.rows), 3, 16, 16)
        assert torch.isfinite(batch.images).all()
        sampled = sampler.sample(batch.rows, 0)
        texts = np.concatenate([sampled.caption_texts, sampled.label_texts[sampled.label_texts >= 0]])
        assert sampler.tokens(texts).shape[1] <= 77
        seen += batch.rows.tolist()
    # each caption of a good image once; those of the truncated one are stood in for, counted and named
    good = [row for row in range(28) if table.image_ids[row] in GOOD]
    assert set(good) == set(seen)
    assert len(seen) == 28
    assert reader.report.broken_reads >= 4
    assert list(reader.report.broken) == ["000000000007.jpg"]
    assert "truncated" in reader.report.broken["000000000007.jpg"]


def test_a_corpus_without_any_caption_says_so(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco", {1: (), 2: ()})
    with pytest.raises(RegroupError, match=r"captions_train2017\.json: annotations: there is no caption"):
        extract_labels(root, tmp_path / "captions", NounsParams())
    assert not (tmp_path / "captions").exists()
    build_shards(root, tmp_path / "shards", ShardsParams())
    with pytest.raises(RegroupError, match=r"index\.parquet: none of its images has a caption"):
        CaptionReader(tmp_path / "shards", seed=0, batch_size=1)
