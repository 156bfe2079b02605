"""Reading shards: each sample once an epoch, whoever reads."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regroup.captions.images import decode_rgb
from regroup.captions.index import INDEX, read_index
from regroup.captions.labels import extract_labels
from regroup.captions.reader import CaptionReader
from regroup.captions.settings import NounsParams, ShardsParams
from regroup.captions.shards import build_shards
from regroup.captions.table import LABELS, LabelTable
from regroup.errors import RegroupError

from .conftest import jpeg, real_folder, write_coco
from .reading import CAPTIONS, flat, rows


def test_an_image_comes_with_each_of_its_captions(source: Path, shards: Path, tmp_path: Path) -> None:
    extract_labels(source / "coco", tmp_path, NounsParams())
    table = LabelTable.open(tmp_path / LABELS)
    reader = CaptionReader(shards, seed=1, batch_size=4)
    reader.check_labels(table)
    for batch in reader.epoch(0):
        for image, row, image_id in zip(batch.images, batch.rows, batch.image_ids, strict=True):
            assert table.image_ids[row] == image_id
            assert np.array_equal(image, decode_rgb(jpeg(int(image_id))))
    assert str(reader.report) == f"{CAPTIONS} samples read, 0 reads of 0 broken files"


def test_labels_of_other_captions_are_refused(source: Path, shards: Path, tmp_path: Path) -> None:
    other = write_coco(tmp_path / "coco", {1: ["a dog"], 2: ["a cat"]})
    extract_labels(other, tmp_path / "captions", NounsParams())
    with pytest.raises(RegroupError, match=f"2 captions are not the {CAPTIONS} captions"):
        CaptionReader(shards, seed=1, batch_size=4).check_labels(
            LabelTable.open(tmp_path / "captions" / LABELS)
        )


def test_labels_of_the_same_ids_with_other_words_are_refused(
    source: Path, shards: Path, tmp_path: Path
) -> None:
    """A caption that was corrected in place keeps its id."""
    text = (source / "coco/annotations/captions_train2017.json").read_text()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/captions_train2017.json").write_text(text.replace("dog 9 1", "cat 9 1"))
    extract_labels(tmp_path, tmp_path / "captions", NounsParams())
    table = LabelTable.open(tmp_path / "captions" / LABELS)
    with pytest.raises(RegroupError, match="run the stages `shards` and `nouns` on the same source"):
        CaptionReader(shards, seed=1, batch_size=4).check_labels(table)


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_each_sample_comes_once_an_epoch_in_an_order_no_worker_changes(shards: Path, workers: int) -> None:
    reader = CaptionReader(shards, seed=3, batch_size=4, workers=workers)
    batches = rows(reader, 2)
    assert sorted(flat(batches)) == list(range(CAPTIONS))
    assert len(batches) == len(reader) == -(-CAPTIONS // 4)
    assert batches == rows(CaptionReader(shards, seed=3, batch_size=4), 2)


@pytest.mark.parametrize("shuffle_shards", [None, 2])
@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_ranks_share_an_epoch_exactly(shards: Path, batch_size: int, shuffle_shards: int | None) -> None:
    ranks = [
        CaptionReader(
            shards, seed=3, batch_size=batch_size, rank=rank, world_size=2, shuffle_shards=shuffle_shards
        )
        for rank in range(2)
    ]
    batches = [rows(reader, 1) for reader in ranks]
    assert sorted(flat(batches[0]) + flat(batches[1])) == list(range(CAPTIONS))
    assert len(batches[0]) == len(batches[1]) == len(ranks[0])
    alone = CaptionReader(shards, seed=3, batch_size=2 * batch_size, shuffle_shards=shuffle_shards)
    assert [one + two for one, two in zip(*batches, strict=True)] == rows(alone, 1)


def test_the_last_batch_may_be_left_out_so_that_ranks_stay_even(shards: Path) -> None:
    ranks = [
        rows(CaptionReader(shards, seed=3, batch_size=5, rank=r, world_size=3, drop_last=True), 0)
        for r in range(3)
    ]
    assert {len(batch) for batches in ranks for batch in batches} == {5}
    assert [len(batches) for batches in ranks] == 3 * [CAPTIONS // 15]


def test_epochs_and_seeds_are_shuffled_differently(shards: Path) -> None:
    orders = [flat(rows(CaptionReader(shards, seed=s, batch_size=9), e)) for s, e in ((0, 0), (0, 1), (1, 0))]
    assert all(order != sorted(order) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_an_epoch_of_fewer_samples_is_the_beginning_of_the_whole_one(shards: Path) -> None:
    part = CaptionReader(shards, seed=3, batch_size=4, epoch_samples=10)
    assert len(part) == 3
    assert flat(rows(part, 5)) == flat(rows(CaptionReader(shards, seed=3, batch_size=4), 5))[:10]


def test_few_shards_lie_open_at_a_time_when_shuffled_in_groups(shards: Path) -> None:
    index = read_index(shards / INDEX)
    shard_of = np.repeat(index["shard"].to_numpy(), index["captions"].to_numpy())
    order = CaptionReader(shards, seed=3, batch_size=1, shuffle_shards=2).order(0)
    visited = [str(shard_of[row]) for row in order]
    groups = [set(visited[start:stop]) for start, stop in _runs(visited, 2)]
    assert len(groups) == 3
    assert sum(map(len, groups)) == 5
    within = order[np.isin(shard_of[order], sorted(groups[0]))]
    assert within.tolist() != sorted(within.tolist())


def _runs(visited: list[str], size: int) -> Iterator[tuple[int, int]]:
    """Longest stretches of at most `size` different shards."""
    start = 0
    for stop in range(1, len(visited) + 1):
        if stop == len(visited) or len(set(visited[start : stop + 1])) > size:
            yield start, stop
            start = stop


def test_keys_are_the_samples_own(shards: Path) -> None:
    def keys(epoch: int, **options: Any) -> dict[int, int]:
        batches = CaptionReader(shards, seed=3, **options).epoch(epoch)
        return {
            r: k for batch in batches for r, k in zip(batch.rows.tolist(), batch.keys.tolist(), strict=True)
        }

    once = keys(1, batch_size=4)
    assert once == keys(1, batch_size=9, workers=2)
    assert len(set(once.values())) == CAPTIONS
    assert not set(once.values()) & set(keys(2, batch_size=4).values())


def mean_pixel(images: list[Any], *, keys: Any) -> list[tuple[float, int]]:
    return [(float(image.mean()), int(key)) for image, key in zip(images, keys, strict=True)]


def test_a_transform_runs_in_the_workers_with_the_keys(shards: Path) -> None:
    reader = CaptionReader(shards, seed=3, batch_size=4, workers=2, transform=mean_pixel)
    plain = CaptionReader(shards, seed=3, batch_size=4, keep_decoded=5_000)
    for batch, expected in zip(reader.epoch(0), plain.epoch(0), strict=True):
        assert batch.images == mean_pixel(expected.images, keys=expected.keys)


def test_real_shards_are_read_whole(tmp_path: Path) -> None:
    root = real_folder()
    build_shards(root, tmp_path, ShardsParams(images_per_shard=16))
    reader = CaptionReader(tmp_path, seed=0, batch_size=32, workers=2, decode=False)
    index = {entry["image_id"]: entry for entry in read_index(tmp_path / INDEX).to_pylist()}
    seen = []
    for batch in reader.epoch(0):
        seen += batch.rows.tolist()
        for content, image_id in zip(batch.images, batch.image_ids.tolist(), strict=True):
            assert content == (root / "train2017" / index[image_id]["file_name"]).read_bytes()
    assert sorted(seen) == list(range(400))
    assert Image.open(io.BytesIO(content)).size == (index[image_id]["width"], index[image_id]["height"])
