"""What the operating system refuses is a message; what is the program's own fault stays a traceback."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from regroup.errors import RegroupError, readable_errors
from regroup.io import atomic_path, read_json, write_bytes, write_json
from regroup.settings import read_yaml


def status(error: BaseException) -> int | str | None:
    with pytest.raises(SystemExit) as left, readable_errors("program"):
        raise error
    return left.value.code


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RegroupError("a: wrong"), "program: error: a: wrong\n"),
        (
            PermissionError(errno.EACCES, "x", "/a/b"),
            "program: error: /a/b: permission denied; change its rights",
        ),
        (OSError(errno.ENOSPC, "x", "f"), "program: error: f: no space left on the disk; make room"),
        (OSError(errno.ENAMETOOLONG, "x", "f"), "f: the name is too long"),
        (OSError(errno.EROFS, "x", b"f"), "f: the file system is read-only"),
        (OSError("a library's words"), "program: error: a library's words\n"),
        (OSError(errno.EXDEV, "Invalid cross-device link", "f"), "f: invalid cross-device link"),
        (MemoryError(), "program: error: not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory"), "program: error: not enough memory"),
    ],
)
def test_what_a_user_can_mend(error: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(error) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_interrupts_and_faults_of_our_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert status(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "program: interrupted\n"
    with pytest.raises(KeyError) as fault, readable_errors("program"):
        raise KeyError("a bug")
    assert "please report" in fault.value.__notes__[0]
    monkeypatch.setenv("REGROUP_TRACEBACK", "1")
    with pytest.raises(RegroupError), readable_errors("program"):
        raise RegroupError("where?")


@pytest.mark.parametrize("stream", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "> /dev/full", "| head -c 1"])
def test_streams_that_are_closed_or_full(stream: str, tmp_path: Path) -> None:
    code = f'{sys.executable} -c "from regroup.cli import main; main()" --version'
    done = subprocess.run(
        ["bash", "-c", f"{code} {stream}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert (done.returncode, "no space left" in done.stderr) == (
        (2, True) if "full" in stream else (done.returncode, False)
    )
    assert done.returncode in (0, 1, 2)


class TestWriting:
    def test_a_full_disk_names_the_file_and_leaves_the_old_one(self, tmp_path: Path) -> None:
        path = tmp_path / "a.json"
        write_bytes(path, b"old")
        with pytest.raises(OSError, match=r"a\.json") as failed, atomic_path(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert failed.value.errno == errno.ENOSPC
        assert [one.read_bytes() for one in tmp_path.iterdir()] == [b"old"]

    def test_a_library_that_does_not_say_why_on_a_full_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("regroup.io._is_full", lambda path: True)
        with pytest.raises(OSError, match=r"No space left.*model") as failed, atomic_path(tmp_path / "model"):
            raise RuntimeError("PytorchStreamWriter failed writing file data/0")
        assert failed.value.errno == errno.ENOSPC

    def test_a_folder_where_the_file_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "a.json").mkdir()
        with pytest.raises(IsADirectoryError):
            write_json(tmp_path / "a.json", {})
        assert [path.name for path in tmp_path.iterdir()] == ["a.json"]

    def test_names_that_are_not_utf8_come_back(self, tmp_path: Path) -> None:
        write_json(tmp_path / "a.json", {"image": "caf\udce9.jpg", "é": 1})
        assert "é" in (tmp_path / "a.json").read_bytes().decode()
        assert read_json(tmp_path / "a.json") == {"image": "caf\udce9.jpg", "é": 1}

    def test_a_name_as_long_as_names_may_be(self, tmp_path: Path) -> None:
        write_bytes(tmp_path / ("a" * 255), b"x")
        assert (tmp_path / ("a" * 255)).read_bytes() == b"x"


@pytest.mark.parametrize("read", [read_json, read_yaml])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        (b"\xff\xfe\xff", "not valid"),
        (json.dumps([1])[:-1], "not valid"),
        (None, "no such file"),
        ("folder", "is a folder, but a file is needed"),
        ("pipe", "is a pipe or a device"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, read, content: str | bytes | None, said: str) -> None:
    path = tmp_path / "given"
    if content == "folder":
        path.mkdir()
    elif content == "pipe":
        os.mkfifo(path)
    elif content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(RegroupError, match=said):
        read(path)


@pytest.mark.parametrize(
    "text", ["a: 2001-99-99", "a: !!int x", "!!bool x", "a: !!python/object:os.x {}", "a: ._"]
)
def test_yaml_that_means_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(RegroupError, match="not valid YAML"):
        read_yaml(tmp_path / "a.yaml")
