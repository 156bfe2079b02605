"""Servers that change a file, serve it wrongly, or never come to an end."""

from __future__ import annotations

import gzip
import hashlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.sources import transfer
from regroup.sources.fetch import RECORD, fetch_all, read_record
from regroup.sources.settings import Artefact

OLD, NEW = random.Random(1).randbytes(500_000), random.Random(2).randbytes(500_000)
HALF = 200_000
PAGE = b"<!DOCTYPE html>\n<title>Sign in</title>" + 600 * b" "


class Asked(BaseHTTPRequestHandler):
    """One request, and how to answer it."""

    protocol_version = "HTTP/1.1"
    number = 0
    answer: Callable[[Asked], None]

    @property
    def start(self) -> int:
        return int((self.headers.get("Range") or "bytes=0-")[6:-1])

    def do_GET(self) -> None:
        type(self).number += 1
        self.close_connection = True
        with suppress(OSError):
            type(self).answer(self)

    def say(self, status: int, body: bytes = b"", **headers: object) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": len(body), "Connection": "close", **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


Serve = Callable[..., bytes]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Fetch a file from a server that answers so; its bytes, or the error."""
    monkeypatch.setattr(transfer, "_LONGEST_WAIT", 0.0)
    running = []

    def fetch(answer: Callable[[Asked], None], file: str = "one.dat", **about: object) -> bytes:
        handler = type("Bound", (Asked,), {"answer": answer})
        http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        running.append(http)
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        urls = (f"http://127.0.0.1:{http.server_port}/f",)
        one = Artefact.model_validate({"file": file, "urls": urls, **about})
        try:
            return fetch_all({"one": one}, tmp_path)["one"].read_bytes()
        finally:
            assert handler.number <= transfer.TRIES

    yield fetch
    for http in running:
        http.shutdown()
        http.server_close()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def cut(asked: Asked, **headers: object) -> bool:
    """The first answer: the old file, cut off."""
    if asked.number == 1:
        asked.say(200, OLD[:HALF], **{"Content_Length": len(OLD), **headers})
    return asked.number == 1


def rest(asked: Asked, content: bytes, total: int | str | None = None, **headers: object) -> None:
    """The rest of a file, whatever `If-Range` says."""
    start = asked.start
    place = f"bytes {start}-{len(content) - 1}/{len(content) if total is None else total}"
    asked.say(206 if start else 200, content[start:], Content_Range=place if start else None, **headers)


LAST_YEAR, NOW = "Wed, 01 Jan 2025 00:00:00 GMT", "Thu, 01 Jan 2026 00:00:00 GMT"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"ETag": '"1"'}, {"ETag": '"2"'}),
        ({"ETag": '"1"'}, {}),
        ({"Last_Modified": LAST_YEAR}, {"Last_Modified": NOW}),
        ({"ETag": 'W/"1"', "Last_Modified": LAST_YEAR}, {"ETag": 'W/"2"', "Last_Modified": LAST_YEAR}),
        ({"ETag": '"1"'}, {"ETag": '"1"', "Content_Encoding": "gzip"}),
    ],
)
def test_the_rest_of_another_version_is_never_joined(
    serve: Serve, before: dict[str, str], after: dict[str, str]
) -> None:
    def answer(asked: Asked) -> None:
        if not cut(asked, **before):
            rest(
                asked,
                NEW,
                **(after if asked.start else {key: after[key] for key in after if key != "Content_Encoding"}),
            )

    assert serve(answer) == NEW


def test_a_file_of_another_size_under_the_same_tag_is_another(serve: Serve) -> None:
    def answer(asked: Asked) -> None:
        if not cut(asked, ETag='"1"'):
            rest(asked, NEW + b"more", ETag='"1"')

    assert serve(answer) == NEW + b"more"


def test_a_checksum_finds_a_join_that_nothing_else_shows_and_the_file_comes_whole(serve: Serve) -> None:
    def answer(asked: Asked) -> None:
        if not cut(asked):
            rest(asked, NEW)

    assert serve(answer, md5=md5(NEW)) == NEW


@pytest.mark.parametrize("place", ["bytes 100-499999/500000", "bytes 200000-100/500000", "chapter 2", None])
def test_another_range_than_asked_for_is_not_taken(serve: Serve, place: str | None) -> None:
    def answer(asked: Asked) -> None:
        if not cut(asked, ETag='"1"'):
            if asked.start:
                asked.say(206, OLD[100:], Content_Range=place, ETag='"1"')
            else:
                asked.say(200, OLD, ETag='"1"')

    assert serve(answer) == OLD


def test_a_range_that_ends_early_is_not_the_end_of_the_file(serve: Serve) -> None:
    def answer(asked: Asked) -> None:
        if not cut(asked, ETag='"1"'):
            stop = min(asked.start + 100_000, len(OLD))
            place = f"bytes {asked.start}-{stop - 1}/{'*' if asked.number % 2 else len(OLD)}"
            asked.say(206, OLD[asked.start : stop], Content_Range=place, ETag='"1"')

    assert serve(answer) == OLD


def test_a_login_page_in_the_middle_costs_nothing(serve: Serve, tmp_path: Path) -> None:
    def portal(asked: Asked) -> None:
        if not cut(asked, ETag='"1"'):
            asked.say(200, PAGE)

    with pytest.raises(RegroupError, match=r"the server sent a web page"):
        serve(portal)
    assert (tmp_path / "one.dat.part").read_bytes() == OLD[:HALF]
    assert not (tmp_path / RECORD).exists()


# --- ends


def test_a_server_that_packs_ranges_all_the_same_comes_to_an_end(serve: Serve) -> None:
    text = b"hello world " * 100_000
    packed = gzip.compress(text)

    def answer(asked: Asked) -> None:
        if asked.start >= len(packed):
            asked.say(416, Content_Range=f"bytes */{len(packed)}")
        else:
            body = packed[asked.start :] if asked.number > 1 else packed[:1000]
            place = f"bytes {asked.start}-{len(packed) - 1}/{len(packed)}" if asked.start else None
            size = len(packed) - asked.start
            asked.say(
                206 if asked.start else 200,
                body,
                Content_Length=size,
                Content_Range=place,
                Content_Encoding="gzip",
                ETag='"1"',
            )

    assert serve(answer, md5=md5(text)) == text


def test_packings_that_are_wrong_or_unknown_are_refused(serve: Serve) -> None:
    for encoding, body in (("gzip", b"no gzip"), ("gzip", gzip.compress(OLD)[:-20]), ("br", OLD)):
        with pytest.raises(RegroupError, match=r"packed"):
            serve(lambda asked, e=encoding, b=body: asked.say(200, b, Content_Encoding=e))


@pytest.mark.parametrize("seed", range(3))
def test_a_server_that_always_breaks_off_is_given_up(serve: Serve, seed: int) -> None:
    """Without ranges every try starts again, and comes now further, now less far."""
    where, count = random.Random(seed), 0

    def answer(asked: Asked) -> None:
        nonlocal count
        count += 1
        asked.say(200, OLD[: where.randrange(len(OLD))], Content_Length=len(OLD))

    with pytest.raises(RegroupError, match="cannot be downloaded"):
        serve(answer)
    assert count <= 60


def test_a_byte_at_a_time_is_no_progress(serve: Serve) -> None:
    count = 0

    def answer(asked: Asked) -> None:
        nonlocal count
        count += 1
        place = f"bytes {asked.start}-{len(OLD) - 1}/{len(OLD)}" if asked.start else None
        asked.say(
            206 if asked.start else 200,
            OLD[asked.start : asked.start + 1],
            Content_Length=len(OLD) - asked.start,
            Content_Range=place,
            ETag='"1"',
        )

    with pytest.raises(RegroupError, match="cannot be downloaded"):
        serve(answer)
    assert count == transfer.ATTEMPTS


def test_a_line_that_trickles_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "_TIMEOUT", (1.0, 0.05))
    monkeypatch.setattr(transfer, "ATTEMPTS", 2)

    def answer(asked: Asked) -> None:
        asked.say(200, b"", Content_Length=len(OLD))
        for byte in OLD:
            asked.wfile.write(bytes([byte]))
            time.sleep(0.01)

    with pytest.raises(RegroupError, match="bytes a second came"):
        serve(answer)


@pytest.mark.parametrize("length", [None, 10**12])
def test_a_file_without_end_is_ended(serve: Serve, tmp_path: Path, length: int | None) -> None:
    def answer(asked: Asked) -> None:
        asked.say(200, b"", Content_Length=length)
        while True:
            asked.wfile.write(OLD)

    with pytest.raises(RegroupError, match="the file has far less"):
        serve(answer, megabytes=0.001)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_none_is_not_tried_again(serve: Serve, tmp_path: Path) -> None:
    one = Artefact(file="one.dat", urls=("htp://nowhere/f", "http://"))
    with pytest.raises(RegroupError, match=r"(?s)htp://nowhere/f: No connection adapters.*http://: "):
        fetch_all({"one": one}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_redirects_in_a_circle_end(serve: Serve) -> None:
    with pytest.raises(RegroupError, match="redirects"):
        serve(lambda asked: asked.say(302, Location="/f"))


# --- what is recorded


@pytest.mark.parametrize(
    ("file", "body"),
    [
        ("one.zip", PAGE),
        ("one.zip", b"PK\x03\x04 and then the line broke"),
        ("one.zip", b'{"error": "quota"}'),
        ("one.tar", b'{"error": "quota"}' + 600 * b" "),
        ("one.pth", b"version https://git-lfs.github.com/spec/v1"),
        ("one.json", b"Not found"),
        ("one.dat", b""),
    ],
)
def test_what_cannot_be_the_file_is_neither_kept_nor_recorded(
    serve: Serve, tmp_path: Path, file: str, body: bytes
) -> None:
    with pytest.raises(RegroupError, match="cannot be downloaded"):
        serve(lambda asked: asked.say(200, body), file=file)
    assert list(tmp_path.iterdir()) == []


def test_a_record_of_a_wrong_first_download_says_how_to_take_it_back(serve: Serve, tmp_path: Path) -> None:
    serve(lambda asked: asked.say(200, OLD))
    (tmp_path / "one.dat").unlink()
    with pytest.raises(RegroupError, match=r"counts as right; .*remove `one` there"):
        serve(lambda asked: asked.say(200, NEW))
    (tmp_path / RECORD).unlink()
    assert serve(lambda asked: asked.say(200, NEW)) == NEW
    assert read_record(tmp_path)["one"].sha256 == hashlib.sha256(NEW).hexdigest()
