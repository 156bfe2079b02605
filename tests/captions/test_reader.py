"""Reading shards: each sample once an epoch, whoever reads; resume; damage; URLs."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from regroup.captions import store
from regroup.captions.images import decode_rgb
from regroup.captions.index import INDEX, read_index
from regroup.captions.labels import extract_labels
from regroup.captions.reader import CaptionReader
from regroup.captions.settings import NounsParams, ShardsParams
from regroup.captions.shards import build_shards
from regroup.captions.table import LABELS, LabelTable
from regroup.errors import RegroupError

from .conftest import jpeg, real_folder, write_coco


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 images with 0 to 4 captions, 53 in all, in 5 shards."""
    root = tmp_path_factory.mktemp("reader") / "coco"
    write_coco(root, {n: [f"dog {n} {k}" for k in range(n * 7 % 5)] for n in range(1, 26)})
    build_shards(root, root.parent / "shards", ShardsParams(images_per_shard=5))
    return root.parent


@pytest.fixture(scope="module")
def shards(source: Path) -> Path:
    return source / "shards"


CAPTIONS = sum(n * 7 % 5 for n in range(1, 26))


def rows(reader: CaptionReader, epoch: int, start: int = 0) -> list[list[int]]:
    return [batch.rows.tolist() for batch in reader.epoch(epoch, start)]


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


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


# --- damage


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


# --- URLs


class Handler(SimpleHTTPRequestHandler):
    requests: list[str]
    failures: dict[str, int]

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        self.requests.append(name)
        if self.failures.get(name, 0):
            self.failures[name] -= 1
            self.send_error(503)
        else:
            super().do_GET()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(shards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Handler]]]:
    monkeypatch.setattr("regroup.captions.store.time.sleep", lambda seconds: None)
    handler = type("Bound", (Handler,), {"requests": [], "failures": {}})

    def make(*arguments: Any) -> Handler:
        return handler(*arguments, directory=str(shards))

    with ThreadingHTTPServer(("127.0.0.1", 0), make) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}", handler
        http.shutdown()
        thread.join()


@pytest.fixture
def pointing(server: tuple[str, type[Handler]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the server's shards, which are fetched into tmp_path/cache."""
    monkeypatch.setattr(store, "CACHE", tmp_path / "cache")
    store.point_at(server[0], tmp_path / "shards")
    server[1].requests.clear()
    return tmp_path / "shards"


def fetched(pointing: Path) -> list[Path]:
    return sorted((pointing.parent / "cache").glob("*/*.tar"))


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_behind_a_url_are_fetched_once_and_read_like_local_ones(
    server: tuple[str, type[Handler]], pointing: Path, shards: Path, workers: int
) -> None:
    handler = server[1]
    handler.failures["train-00003.tar"] = 2
    options: dict[str, Any] = {"seed": 3, "batch_size": 4, "shuffle_shards": 5}
    remote = CaptionReader(pointing, workers=workers, **options)
    local = CaptionReader(shards, **options)
    for one, two in zip(remote.epoch(0), local.epoch(0), strict=True):
        assert np.array_equal(one.rows, two.rows)
        assert all(np.array_equal(a, b) for a, b in zip(one.images, two.images, strict=True))
    assert sorted(handler.requests) == sorted(
        [*(f"train-{n:05d}.tar" for n in range(5)), "train-00003.tar", "train-00003.tar"]
    )


def test_a_small_cache_holds_few_shards_at_a_time(pointing: Path) -> None:
    reader = CaptionReader(pointing, seed=3, batch_size=4, shuffle_shards=1)
    most = 0
    seen = []
    for batch in reader.epoch(0):
        seen += batch.rows.tolist()
        most = max(most, len(fetched(pointing)))
    assert sorted(seen) == list(range(CAPTIONS))
    assert most == 2


def test_a_fetched_shard_that_was_damaged_since_is_fetched_again(
    server: tuple[str, type[Handler]], pointing: Path, shards: Path
) -> None:
    options: dict[str, Any] = {"seed": 3, "batch_size": 4, "shuffle_shards": 5}
    list(CaptionReader(pointing, **options).epoch(0))
    one = fetched(pointing)[2]
    content = bytearray(one.read_bytes())
    content[700] ^= 1
    one.write_bytes(content)
    (one.parent / f".{one.name}.k1ll3d.tmp").write_bytes(b"half")
    server[1].requests.clear()
    list(CaptionReader(pointing, **options).epoch(0))
    assert server[1].requests == [one.name]
    assert one.read_bytes() == (shards / one.name).read_bytes()
    assert not list(one.parent.glob(".*.tmp"))


def test_a_shard_of_another_checksum_or_none_is_an_error(
    server: tuple[str, type[Handler]], pointing: Path, shards: Path
) -> None:
    handler = server[1]
    handler.failures["train-00001.tar"] = 100
    with pytest.raises(RegroupError, match=r"train-00001\.tar: cannot be fetched: .*503"):
        list(CaptionReader(pointing, seed=3, batch_size=4).epoch(0))
    handler.failures["train-00001.tar"] = 0
    whole = (shards / "train-00001.tar").read_bytes()
    try:
        for wrong, words in ((whole[:-1] + b"x", "its SHA-256"), (whole + b"x", "more than the")):
            (shards / "train-00001.tar").write_bytes(wrong)
            with pytest.raises(RegroupError, match=rf"train-00001\.tar: cannot be fetched: {words}"):
                list(CaptionReader(pointing, seed=3, batch_size=4).epoch(0))
    finally:
        (shards / "train-00001.tar").write_bytes(whole)
    assert "train-00001.tar" not in {path.name for path in fetched(pointing)}
    assert not list((pointing.parent / "cache").rglob(".*.tmp"))


@pytest.mark.parametrize(
    ("url", "words"),
    [("nosuch://bucket/shards", "Protocol not known"), ("s3://bucket/shards", "s3fs")],
)
def test_an_address_without_a_driver_is_said(
    url: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(RegroupError, match=rf"{url}/{INDEX}: cannot be fetched: .*{words}"):
        store.point_at(url, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_behind_a_url_has_to_be_an_index_of_plain_names(
    server: tuple[str, type[Handler]], shards: Path, tmp_path: Path
) -> None:
    (tmp_path / INDEX).write_text("<html>Sign in</html>")
    with pytest.raises(RegroupError, match="not a shard index"):
        store.point_at(tmp_path.as_uri(), tmp_path / "out")
    table = read_index(shards / INDEX)
    climbing = pa.array(["../../" + name for name in table["shard"].to_pylist()])
    pq.write_table(table.set_column(0, "shard", climbing), tmp_path / INDEX)
    store.point_at(tmp_path.as_uri(), tmp_path / "out")
    with pytest.raises(RegroupError, match=r"names a shard '\.\./\.\./train-00000\.tar', which is no"):
        CaptionReader(tmp_path / "out", seed=1, batch_size=1)


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
