"""Downloads over a bad line, from bad servers, onto a full disk."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from regroup.errors import RegroupError
from regroup.sources.fetch import RECORD, fetch_all, read_record
from regroup.sources.settings import Artefact
from regroup.sources.transfer import ATTEMPTS

from .server import Site

CONTENT = random.Random(1).randbytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
CHUNK = 1 << 16  # may be lost at a cut
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def artefact(site: Site, *paths: str, **checksums: str) -> dict[str, Artefact]:
    urls = tuple(f"{site.url}/{path}" for path in paths)
    return {"one": Artefact(file="one.dat", urls=urls, **checksums)}


def starts(wanted: str | None) -> int:
    return 0 if wanted is None else int(wanted.removeprefix("bytes=").removesuffix("-"))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_cut_transfer_goes_on_where_it_stopped(site: Site, tmp_path: Path) -> None:
    site.files["a"], site.tags["a"] = CONTENT, '"v1"'
    site.cuts["a"] = [1_200_000, 700_000]
    paths = fetch_all(artefact(site, "a"), tmp_path)
    assert paths["one"].read_bytes() == CONTENT
    assert [path for path, _ in site.asked] == ["a", "a", "a"]
    assert [starts(wanted) for _, wanted in site.asked] == [0, 1_200_000, 1_900_000]
    assert site.sent == len(CONTENT)
    assert names(tmp_path) == [RECORD, "one.dat"]


def test_a_later_run_goes_on_with_what_an_earlier_one_got(site: Site, tmp_path: Path) -> None:
    site.files["a"], site.tags["a"] = CONTENT, '"v1"'
    site.cuts["a"] = [1_000_000] + ATTEMPTS * [0]
    with pytest.raises(RegroupError, match=r"one: cannot be downloaded:\n  http.*/a: "):
        fetch_all(artefact(site, "a"), tmp_path)
    assert names(tmp_path) == ["one.dat.part", "one.dat.part.json"]
    had = (tmp_path / "one.dat.part").stat().st_size
    assert 1_000_000 - CHUNK < had <= 1_000_000
    site.asked.clear()
    site.cuts.clear()
    fetch_all(artefact(site, "a"), tmp_path)
    assert site.asked == [("a", f"bytes={had}-")]
    assert (tmp_path / "one.dat").read_bytes() == CONTENT
    assert names(tmp_path) == [RECORD, "one.dat"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    site.files["a"], site.tags["a"] = CONTENT, '"v1"'
    site.cuts["a"] = [1_000_000] + ATTEMPTS * [0]
    with pytest.raises(RegroupError):
        fetch_all(artefact(site, "a"), tmp_path)
    site.files["a"], site.tags["a"], site.cuts = CONTENT[::-1], '"v2"', {}
    fetch_all(artefact(site, "a"), tmp_path)
    assert (tmp_path / "one.dat").read_bytes() == CONTENT[::-1]


def test_without_version_and_checksum_nothing_is_continued(site: Site, tmp_path: Path) -> None:
    site.files["a"], site.cuts["a"] = CONTENT, [1_000_000]
    fetch_all(artefact(site, "a"), tmp_path)
    assert site.asked == [("a", None), ("a", None)]
    assert (tmp_path / "one.dat").read_bytes() == CONTENT


def test_a_server_without_ranges_is_read_from_the_beginning(site: Site, tmp_path: Path) -> None:
    site.files["a"], site.ranges, site.cuts["a"] = CONTENT, False, [1_000_000]
    fetch_all(artefact(site, "a", md5=MD5), tmp_path)
    assert (tmp_path / "one.dat").read_bytes() == CONTENT


def test_a_whole_part_is_only_checked(site: Site, tmp_path: Path) -> None:
    site.files["a"] = CONTENT
    (tmp_path / "one.dat.part").write_bytes(CONTENT)
    fetch_all(artefact(site, "a", md5=MD5), tmp_path)
    assert site.sent == 0
    assert names(tmp_path) == [RECORD, "one.dat"]


def test_a_part_that_was_wrong_is_fetched_again_from_the_beginning(site: Site, tmp_path: Path) -> None:
    site.files["a"] = CONTENT
    (tmp_path / "one.dat.part").write_bytes(b"of something else")
    fetch_all(artefact(site, "a", md5=MD5), tmp_path)
    assert site.asked == [("a", "bytes=17-"), ("a", None)]
    assert (tmp_path / "one.dat").read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(site: Site, tmp_path: Path) -> None:
    site.files["a"] = CONTENT
    (tmp_path / "one.dat.part").write_bytes(CONTENT + b"more")
    fetch_all(artefact(site, "a", md5=MD5), tmp_path)
    assert (tmp_path / "one.dat").read_bytes() == CONTENT


def test_busy_servers_are_asked_again(site: Site, tmp_path: Path) -> None:
    site.files["a"], site.statuses["a"] = CONTENT, [503, 429, 500]
    fetch_all(artefact(site, "a"), tmp_path)
    assert len(site.asked) == 4


def test_a_missing_file_is_taken_from_the_mirror(site: Site, tmp_path: Path) -> None:
    site.files["b"] = CONTENT
    fetch_all(artefact(site, "a", "b", md5=MD5), tmp_path)
    assert [path for path, _ in site.asked] == ["a", "b"]
    assert read_record(tmp_path)["one"].url == f"{site.url}/b"


def test_a_cut_file_is_continued_from_the_mirror_where_a_checksum_decides(site: Site, tmp_path: Path) -> None:
    site.files |= {"a": CONTENT, "b": CONTENT}
    site.cuts["a"] = [2_000_000] + ATTEMPTS * [0]
    fetch_all(artefact(site, "a", "b", md5=MD5), tmp_path)
    assert site.asked[-1][0] == "b"
    assert starts(site.asked[-1][1]) > 2_000_000 - CHUNK
    assert (tmp_path / "one.dat").read_bytes() == CONTENT


def test_files_of_a_mirror_have_their_own_names(site: Site, tmp_path: Path) -> None:
    site.files["mirror/one.dat"] = CONTENT
    fetch_all(artefact(site, "a"), tmp_path, url=f"{site.url}/mirror/")
    assert (tmp_path / "one.dat").read_bytes() == CONTENT
    assert [path for path, _ in site.asked] == ["mirror/one.dat"]


def test_nowhere_to_be_had_says_where_it_was_looked_for(site: Site, tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match=r"(?s)one: .*/a: HTTP 404 .*/b: HTTP 404 .*`url`.*`root`"):
        fetch_all(artefact(site, "a", "b"), tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha256"])
def test_a_wrong_checksum_leaves_nothing_and_is_said(site: Site, tmp_path: Path, algorithm: str) -> None:
    site.files |= {"a": CONTENT[:-1] + b"x", "b": CONTENT}
    right = hashlib.new(algorithm, CONTENT).hexdigest()
    with pytest.raises(
        RegroupError, match=rf"(?s)/a: {algorithm.upper()} hash .*expected {algorithm}:{right} but got"
    ):
        fetch_all(artefact(site, "a", **{algorithm: right}), tmp_path)
    assert names(tmp_path) == []
    fetch_all(artefact(site, "a", "b", **{algorithm: right}), tmp_path)
    assert (tmp_path / "one.dat").read_bytes() == CONTENT


def test_the_first_download_of_a_file_without_checksum_is_remembered(site: Site, tmp_path: Path) -> None:
    site.files["a"] = CONTENT
    fetch_all(artefact(site, "a"), tmp_path)
    came = json.loads((tmp_path / RECORD).read_text())["one"]
    assert came == {"file": "one.dat", "url": f"{site.url}/a", "bytes": len(CONTENT), "sha256": SHA256}
    (tmp_path / "one.dat").unlink()
    site.files["a"] = CONTENT[::-1]
    with pytest.raises(
        RegroupError, match=rf"(?s){RECORD}, counts as right.*expected sha256:{SHA256} but got"
    ):
        fetch_all(artefact(site, "a"), tmp_path)
    assert names(tmp_path) == [RECORD]
    assert json.loads((tmp_path / RECORD).read_text())["one"] == came


def test_a_file_that_is_there_and_right_is_not_fetched(site: Site, tmp_path: Path) -> None:
    (tmp_path / "one.dat").write_bytes(CONTENT)
    fetch_all(artefact(site, "a", md5=MD5), tmp_path)
    assert site.asked == []
    assert read_record(tmp_path)["one"].sha256 == SHA256


def test_a_record_that_is_none_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"one": {"file": "one.dat"}}')
    with pytest.raises(RegroupError, match=r"downloads\.json: one\.url: "):
        fetch_all(artefact(site, "a"), tmp_path)


def test_a_folder_of_archives_is_read_in_place(site: Site, tmp_path: Path) -> None:
    (tmp_path / "had").mkdir()
    (tmp_path / "had/one.dat").write_bytes(CONTENT)
    one = artefact(site, "a", md5=MD5)
    assert fetch_all(one, tmp_path / "new", url=str(tmp_path / "had"))["one"] == tmp_path / "had/one.dat"
    (tmp_path / "had/one.dat").write_bytes(b"x")
    with pytest.raises(RegroupError, match=rf"had/one\.dat: MD5 hash .*expected md5:{MD5} .*put the right"):
        fetch_all(one, tmp_path / "new", url=str(tmp_path / "had"))
    with pytest.raises(RegroupError, match=r"gone/one\.dat: no such file; `url` names a folder"):
        fetch_all(one, tmp_path / "new", url=str(tmp_path / "gone"))


# --- several


def several(site: Site, *files: str) -> dict[str, Artefact]:
    return {name: Artefact(file=f"{name}.dat", urls=(f"{site.url}/{name}",)) for name in files}


def test_several_files_come_at_the_same_time(site: Site, tmp_path: Path) -> None:
    site.files |= {name: name.encode() for name in "abc"}
    site.together = threading.Barrier(3)  # an answer waits for the other two questions
    paths = fetch_all(several(site, *"abc"), tmp_path)
    assert {name: path.read_text() for name, path in paths.items()} == {name: name for name in "abc"}
    assert sorted(read_record(tmp_path)) == ["a", "b", "c"]


def test_a_failure_ends_the_others_which_keep_what_they_have(site: Site, tmp_path: Path) -> None:
    site.files["a"], site.tags["a"] = 40 * CONTENT, '"v1"'
    site.cuts["a"] = 5000 * [100_000]  # would take 1,800 answers
    with pytest.raises(RegroupError, match=r"^b: cannot be downloaded"):
        fetch_all(several(site, *"ab"), tmp_path)
    assert len(site.asked) < 1500
    assert not (tmp_path / "a.dat").exists()
    site.cuts.clear()
    site.files["b"] = b"b"
    paths = fetch_all(several(site, *"ab"), tmp_path)
    assert paths["a"].read_bytes() == 40 * CONTENT


# --- full disks


def test_what_does_not_fit_is_not_begun(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.files["a"] = CONTENT
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1_000_000))
    with pytest.raises(RegroupError, match=r"one\.dat\.part: needs 0\.00 GB more, and 0\.00 GB are free"):
        fetch_all(artefact(site, "a"), tmp_path)
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_keeps_the_part_for_later(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.files["a"], site.tags["a"] = CONTENT, '"v1"'
    plain = Path.open

    def filling(path: Path, *arguments: Any, **options: Any) -> Any:
        file = plain(path, *arguments, **options)
        if path.name != "one.dat.part":
            return file
        write = file.write

        class Full:
            def __enter__(self) -> Full:
                return self

            def __exit__(self, *raised: object) -> None:
                file.close()

            def write(self, chunk: bytes) -> int:
                if file.tell() + len(chunk) > 2_500_000:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return int(write(chunk))

        return Full()

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", filling)
        with pytest.raises(RegroupError, match=r"one\.dat\.part: the disk is full; make room"):
            fetch_all(artefact(site, "a"), tmp_path)
    assert names(tmp_path) == ["one.dat.part", "one.dat.part.json"]
    had = (tmp_path / "one.dat.part").stat().st_size
    assert had > 1_000_000
    site.asked.clear()
    fetch_all(artefact(site, "a"), tmp_path)
    assert site.asked == [("a", f"bytes={had}-")]
    assert (tmp_path / "one.dat").read_bytes() == CONTENT


# --- Hugging Face's hub

HUB = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import hashlib, os, threading
from pathlib import Path

CONTENT = b"\\x80\\x02 weights" * 1000

class Handler(BaseHTTPRequestHandler):
    def answer(self):
        if self.path != "/some/repo/resolve/abc/pytorch_model.bin":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("X-Repo-Commit", 40 * "a")
        self.send_header("ETag", '"%s"' % hashlib.sha256(CONTENT).hexdigest())
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(CONTENT)
    do_GET = do_HEAD = answer
    def log_message(self, *arguments):
        pass

http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=http.serve_forever, daemon=True).start()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{http.server_port}"
from regroup.errors import RegroupError
from regroup.sources.settings import Artefact, HubFile
from regroup.sources.fetch import fetch_all

hub = HubFile(repo="some/repo", revision="abc", path=sys.argv[2])
try:
    path = fetch_all({"one": Artefact(file="one.bin", hub=hub)}, Path(sys.argv[1]))["one"]
    assert path.read_bytes() == CONTENT
except RegroupError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("path", ["pytorch_model.bin", "gone.bin"])
def test_hub_files_come_by_hugging_faces_client_though_stages_are_offline(tmp_path: Path, path: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", HUB, str(tmp_path / "got"), path],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
    )
    if path == "pytorch_model.bin":
        assert result.returncode == 0, result.stderr
        assert read_record(tmp_path / "got")["one"].url == "hub:some/repo@abc/pytorch_model.bin"
    else:
        assert result.returncode == 1
        assert "one: cannot be downloaded:\n  hub:some/repo@abc/gone.bin: " in result.stderr
        assert "Traceback" not in result.stderr
