"""Who may hold a lease: one living owner, never a dead one."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from regroup.errors import RegroupError
from regroup.lease import LeaseBusyError, LeaseLostError, acquire, holder, stale_seconds, sweep
from regroup.owner import Owner

HOLD = """
import sys, time
from pathlib import Path
from regroup.lease import acquire
with acquire(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@contextmanager
def held_by_a_process(path: Path, seconds: float = 60) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(seconds)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def write(path: Path, **changes: Any) -> Owner:
    """The lease of this very process, changed."""
    owner = replace(Owner.here(), **changes)
    path.write_text(json.dumps(asdict(owner)))
    return owner


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_it_is_held_for_the_block_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "lease"
    with acquire(path) as lease:
        assert holder(path) == lease.owner
    assert holder(path) is None
    assert list(path.parent.iterdir()) == []


def test_a_living_process_is_waited_for_and_named(tmp_path: Path) -> None:
    path, said = tmp_path / "lease", list[str]()
    with held_by_a_process(path) as process:
        age(path, 10_000)  # on the same host silence does not matter
        with pytest.raises(LeaseBusyError, match=f"process {process.pid} on "), acquire(path, wait=0):
            pass
        with (
            pytest.raises(LeaseBusyError),
            acquire(path, wait=0.6, say=said.append),
        ):
            pass
    assert len(said) == 1
    assert f"process {process.pid} on " in said[0]


def test_a_wait_ends_when_the_owner_is_done(tmp_path: Path) -> None:
    with held_by_a_process(tmp_path / "lease", 0.5), acquire(tmp_path / "lease", wait=30, say=lambda _: None):
        pass


def test_a_zombie_is_dead(tmp_path: Path) -> None:
    """Killed, and not yet reaped by its parent: it still has its PID."""
    path = tmp_path / "lease"
    with held_by_a_process(path) as process:
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{process.pid}").exists()
        with acquire(path, wait=0):
            pass


def test_another_process_with_the_same_pid_is_not_the_owner(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    write(path, started=Owner.here().started - 1)
    with acquire(path, wait=0):
        pass


@pytest.mark.parametrize("change", [{"boot": "other"}, {"namespace": "pid:[1]"}, {"started": 0}])
def test_an_owner_elsewhere_lives_as_long_as_it_is_heard_of(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "lease"
    write(path, host="elsewhere", pid=1, **change)
    with (
        pytest.raises(LeaseBusyError, match="process 1 on elsewhere"),
        acquire(path, wait=0, stale_after=100),
    ):
        pass
    for seconds in (101, -101):  # a clock that was set back blocks nobody either
        age(path, seconds)
        with acquire(path, wait=0, stale_after=0.5):
            pass
        write(path, host="elsewhere", pid=1, **change)


def test_an_owner_elsewhere_that_is_heard_again_is_not_robbed(tmp_path: Path) -> None:
    """The clock was set: the lease looks old until its owner touches it."""
    path = tmp_path / "lease"
    write(path, boot="other")
    age(path, 1000)
    threading.Timer(0.05, path.touch).start()
    with pytest.raises(LeaseBusyError), acquire(path, wait=0, stale_after=2):
        pass


def test_the_heartbeat_keeps_it_fresh(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    with acquire(path, stale_after=0.3):
        age(path, 1000)
        time.sleep(0.3)
        assert time.time() - path.stat().st_mtime < 10


def test_one_that_was_taken_for_dead_notices_and_removes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    with acquire(path) as lease:
        lease.confirm()
        path.unlink()
        other = write(path)
        with pytest.raises(LeaseLostError, match=f"process {other.pid}"):
            lease.confirm()
    assert json.loads(path.read_text())["token"] == other.token


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"pid": 1}', "\udcff", '{"token": "../x"}', "[" * 100_000]
)
def test_a_damaged_lease_blocks_until_it_is_old(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lease"
    path.write_text(content, errors="surrogateescape")
    with pytest.raises(LeaseBusyError, match="unreadable"), acquire(path, wait=0):
        pass
    age(path, 1000)
    with acquire(path, wait=0, stale_after=0.2):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_can_be_no_lease_is_said(tmp_path: Path) -> None:
    (tmp_path / "lease").symlink_to("nowhere")
    with pytest.raises(RegroupError, match="remove whatever is there"), acquire(tmp_path / "lease"):
        pass


def test_many_that_find_a_dead_owner_take_turns(tmp_path: Path) -> None:
    path, inside, most = tmp_path / "lease", 0, 0
    errors: list[BaseException] = []
    write(path, started=1)

    def turn() -> None:
        nonlocal inside, most
        try:
            with acquire(path, wait=60, say=lambda _: None):
                inside += 1
                most = max(most, inside)
                time.sleep(0.01)
                inside -= 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=turn) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert most == 1
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_a_lease_was_being_removed_blocks_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    dead = write(path, started=1)
    write(tmp_path / f".lease.{dead.token}.end", started=1)
    with acquire(path, wait=0):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with (
        acquire(tmp_path / "lease"),
        pytest.raises(LeaseBusyError),
        acquire(tmp_path / "lease", wait=0),
    ):
        pass


@pytest.mark.parametrize("value", ["", "soon", "nan", "-1", "9", "1e9"])
def test_the_time_of_silence_has_a_range(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROUP_STALE_AFTER", value)
    with pytest.raises(RegroupError, match="REGROUP_STALE_AFTER="):
        stale_seconds()


def test_where_nothing_can_be_written_the_message_names_the_lock(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(RegroupError, match=r"file/lease: this lock cannot be taken: is there already"),
        acquire(tmp_path / "file/lease"),
    ):
        pass


def test_a_full_disk_keeps_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Giving back takes a small file; without room for it, the owner would wait for itself the next time."""

    def full(path: Path, *_: Any, **__: Any) -> None:
        path.touch()  # a name still fits, its content does not
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with acquire(tmp_path / "lease"):
        monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(RegroupError, match="no space left on the disk"), acquire(tmp_path / "lease"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_kills_have_left_goes_after_a_day(tmp_path: Path) -> None:
    token = Owner.here().token
    names = [f".lock.lease.{token}.tmp", f".lock.lease.{token}.end", "lock.lease", "other.tmp"]
    for name in names:
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for name in names:
        age(tmp_path / name, 25 * 3600)
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock.lease", "other.tmp"]
    sweep(tmp_path / "nothing here")
