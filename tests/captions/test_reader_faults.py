"""Reading shards after an interruption, and shards that are damaged."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from regroup.captions.index import INDEX, read_index
from regroup.captions.reader import CaptionReader
from regroup.captions.settings import ShardsParams
from regroup.captions.shards import build_shards
from regroup.errors import RegroupError

from .conftest import jpeg, write_coco
from .reading import CAPTIONS, flat, rows


def test_resuming_in_mid_epoch_gives_the_rest(shards: Path) -> None:
    reader = CaptionReader(shards, seed=3, batch_size=4)
    whole = rows(reader, 1)
    for start in (0, 5, len(reader)):
        assert rows(CaptionReader(shards, seed=3, batch_size=4, workers=1), 1, start) == whole[start:]


TRAINER = """
import sys, time
from pathlib import Path
from regroup.captions.reader import CaptionReader
folder, done, workers, rank, ranks = sys.argv[1:]
start = len(open(done).readlines())
reader = CaptionReader(
    Path(folder), seed=3, batch_size=4, workers=int(workers), rank=int(rank), world_size=int(ranks)
)
for batch in reader.epoch(0, start):
    with open(done, "a") as file:
        file.write(" ".join(map(str, batch.rows.tolist())) + "\\n")
    time.sleep(0.05)
"""


def train_killed_and_resumed(
    shards: Path, done: Path, workers: int, rank: int, ranks: int
) -> list[list[int]]:
    """Batches that a trainer saw which was killed after three and started again."""
    done.touch()
    command = [sys.executable, "-c", TRAINER, *map(str, (shards, done, workers, rank, ranks))]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while len(done.read_text().splitlines()) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = done.read_text().splitlines()
    assert 3 <= len(before) < -(-CAPTIONS // (4 * ranks))
    subprocess.run(command, check=True, timeout=60)
    return [[int(word) for word in line.split()] for line in done.read_text().splitlines()]


@pytest.mark.parametrize(("workers", "ranks"), [(0, 1), (2, 1), (0, 2)])
def test_a_killed_trainer_that_resumes_sees_nothing_twice_and_loses_nothing(
    shards: Path, tmp_path: Path, workers: int, ranks: int
) -> None:
    seen = [
        train_killed_and_resumed(shards, tmp_path / f"{rank}.txt", workers, rank, ranks)
        for rank in range(ranks)
    ]
    together = [flat(list(batches)) for batches in zip(*seen, strict=True)]
    assert together == rows(CaptionReader(shards, seed=3, batch_size=4 * ranks), 0)
    assert sorted(flat(together)) == list(range(CAPTIONS))


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Image 1 is no image, image 2 is cut short; shard 1 (images 5 to 8) is cut after its first image."""
    images = {n: jpeg(n, 64, 48) for n in range(1, 9)}
    images[1], images[2] = b"not an image at all", images[2][:-200]
    root = write_coco(tmp_path / "coco", {n: ["a dog", "a cat"] for n in images}, images)
    build_shards(root, tmp_path / "shards", ShardsParams(images_per_shard=4))
    entry = read_index(tmp_path / "shards" / INDEX).to_pylist()[5]
    path = tmp_path / "shards" / "train-00001.tar"
    path.write_bytes(path.read_bytes()[: entry["offset"] + 10])
    return tmp_path / "shards"


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_samples_are_counted_named_and_stood_in_for(damaged: Path, workers: int) -> None:
    reader = CaptionReader(damaged, seed=1, batch_size=4, workers=workers)
    batches = list(reader.epoch(0))
    assert [len(batch.images) for batch in batches] == 4 * [4]
    seen = {image for batch in batches for image in batch.image_ids.tolist()}
    assert seen == {3, 4, 5}
    assert set(reader.report.broken) == {f"{n:012d}.jpg" for n in (1, 2, 6, 7, 8)}
    assert reader.report.broken_reads >= 10
    reasons = reader.report.broken
    assert "not a readable image" in reasons["000000000001.jpg"]
    assert "truncated" in reasons["000000000002.jpg"]
    assert "train-00001.tar is cut short" in reasons["000000000006.jpg"]
    again = CaptionReader(damaged, seed=1, batch_size=4)
    assert [batch.rows.tolist() for batch in again.epoch(0)] == [batch.rows.tolist() for batch in batches]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_sample_can_stop_the_run(damaged: Path, workers: int) -> None:
    reader = CaptionReader(damaged, seed=1, batch_size=4, on_broken="error", workers=workers)
    with pytest.raises(RegroupError, match=r"^train-0000\d\.tar: image \d cannot be read: .*verify"):
        list(reader.epoch(0))


def test_missing_files_are_named(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match=r"index\.parquet: no such file; run the stage `shards`"):
        CaptionReader(tmp_path, seed=1, batch_size=1)
    (tmp_path / INDEX).write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(RegroupError, match="not a shard index"):
        CaptionReader(tmp_path, seed=1, batch_size=1)
    (tmp_path / INDEX).write_bytes((shards / INDEX).read_bytes())
    with pytest.raises(RegroupError, match=r"5 shards of its index are missing, such as train-00000\.tar"):
        CaptionReader(tmp_path, seed=1, batch_size=1)
