"""Reading shards behind a URL: fetched once, checked, and kept in a cache of a size."""

import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from regroup.captions import store
from regroup.captions.index import INDEX, read_index
from regroup.captions.reader import CaptionReader
from regroup.errors import RegroupError

from .reading import CAPTIONS


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
