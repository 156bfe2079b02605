"""DVC's locks: no dead owner blocks a run, no living one is robbed, and another DVC agrees."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import dvc.lock
import dvc.rwlock
import pytest
from dvc.fs import localfs
from dvc.lock import LockError
from dvc.utils.serialize import dump_yaml

from regroup.owner import Owner
from regroup.safe_dvc.locks import make_lock
from regroup.safe_dvc.rwlock import BusyError, rwlock
from regroup.safe_dvc.stages import _without_a_shell_between

from .toy_project import Project, user_environment

# before anything is installed: what another DVC does
plain_rwlock = dvc.rwlock.rwlock
PlainLock, PlainLink = dvc.lock.Lock, dvc.lock.HardlinkLock

HOLD = """
import sys, time
from regroup.safe_dvc.locks import make_lock
from regroup.safe_dvc.rwlock import rwlock
folder, kind, path = sys.argv[1:4]
if kind == "rwlock":
    held = rwlock(folder, None, "dvc repro", [], [path], False)
else:
    held = make_lock(path, tmp_dir=folder, hardlink_lock=kind == "link")
with held:
    print("held", flush=True)
    time.sleep(float(sys.argv[4]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project/.dvc/tmp"
    made.mkdir(parents=True)
    return made


@contextmanager
def held(folder: Path, kind: str, path: Path, seconds: float = 60) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(folder), kind, str(path), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def killed(process: subprocess.Popen[Any]) -> None:
    """Killed and not reaped: its PID still exists."""
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def output(folder: Path) -> Path:
    return folder.parents[1] / "runs/one"


@contextmanager
def writing(folder: Path, path: Path | None = None) -> Iterator[None]:
    with rwlock(str(folder), None, "dvc repro one", [], [str(path or output(folder))], False):
        yield


def noted(folder: Path) -> Any:
    return json.loads((folder / "rwlock").read_text())


def test_another_dvc_can_read_the_notes_and_waits(folder: Path) -> None:
    with writing(folder):
        with (
            pytest.raises(LockError, match="dvc repro one"),
            plain_rwlock(str(folder), localfs, "dvc", [str(output(folder) / "model")], [], False),
        ):
            pass
        dvc.rwlock.SCHEMA(noted(folder))
    assert noted(folder) == {"write": {}, "read": {}}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "mounted elsewhere"])
def test_a_living_process_is_named_and_not_robbed(folder: Path, tmp_path: Path, elsewhere: bool) -> None:
    with held(folder, "rwlock", output(folder)) as process:
        before = noted(folder)
        if elsewhere:  # as a container sees it that mounts the project at another path
            (tmp_path / "other").symlink_to(folder.parents[1])
            folder = tmp_path / "other/.dvc/tmp"
        for path in (output(folder), output(folder) / "model", output(folder).parent):
            with pytest.raises(BusyError, match=f"process {process.pid} on "), writing(folder, path):
                pass
        assert noted(folder) == before
        with writing(folder, folder.parents[1] / "runs/one more"):
            pass


def test_a_zombie_is_no_obstacle(folder: Path) -> None:
    with held(folder, "rwlock", output(folder)) as process:
        notes = noted(folder)
        notes["read"] = {"/elsewhere": [*notes["write"].values()][:1]}
        (folder / "rwlock").write_text(json.dumps(notes))
        killed(process)
        with writing(folder):
            assert {info["pid"] for info in noted(folder)["write"].values()} == {os.getpid()}
    assert noted(folder) == {"write": {}, "read": {}}


def note(folder: Path, pid: Any, cmd: str) -> None:
    content = {"write": {str(output(folder)): {"pid": pid, "cmd": cmd}}, "read": {}}
    (folder / "rwlock").write_text(json.dumps(content))


def test_a_note_of_another_dvc_is_judged_by_its_process(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        note(folder, process.pid, "/bin/sleep 60")
        with pytest.raises(BusyError, match=f"process {process.pid} "), writing(folder):
            pass
        note(folder, process.pid, "/venv/bin/dvc repro")  # its PID is another process by now
        with writing(folder):
            pass
        note(folder, process.pid, "/bin/sleep 60")
        os.utime(folder / "rwlock", (1, 1))  # noted before that process started
        with writing(folder):
            pass
        note(folder, process.pid, "/bin/sleep 60")
        killed(process)
        with writing(folder):
            pass


def test_a_process_without_arguments_is_not_robbed(folder: Path) -> None:
    """Between two programs, in `exec`, a living process shows none."""
    with subprocess.Popen([""], executable="/bin/cat", stdin=subprocess.PIPE) as process:
        note(folder, process.pid, "/venv/bin/dvc repro")
        with pytest.raises(BusyError, match=f"process {process.pid} "), writing(folder):
            pass


@pytest.mark.parametrize(("silent", "free"), [(1, False), (1000, True)])
def test_an_owner_on_another_host_is_judged_by_its_heartbeat(
    folder: Path, silent: float, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regroup.lease.BEAT", 0.1)
    name = "0123456789abcdef" * 2
    lease = folder / "owners" / name
    lease.parent.mkdir()
    lease.write_text(json.dumps(asdict(replace(Owner.here(), host="node7", boot="another kernel"))))
    os.utime(lease, (time.time() - silent,) * 2)
    # the PID means nothing here, whether there is such a process or not
    note(folder, os.getpid(), f"dvc repro one [owner {name}]")
    if free:
        with writing(folder):
            pass
        assert not lease.exists()
    else:
        with pytest.raises(BusyError, match="on node7"), writing(folder):
            pass


SHAPES = [
    *("", "null", "[]", '"x"', "3", '{"write": {"/some/pa', '{"write": [1], "read": 2}', "[" * 100_000),
    *(
        '{"write": {"PATH": 1}}',
        '{"write": {"PATH": {"pid": 1}}}',
        '{"write": {"PATH": []}, "read": {"PATH": {}}}',
    ),
    *(
        '{"read": {"PATH": [null, {"pid": "x", "cmd": "y"}]}}',
        '{"write": {"PATH": {"pid": "-1", "cmd": "dvc"}}}',
    ),
]


@pytest.mark.parametrize("content", SHAPES, ids=range(len(SHAPES)))
def test_a_file_of_another_shape_is_repaired(folder: Path, content: str) -> None:
    (folder / "rwlock").write_text(content.replace("PATH", str(output(folder))))
    with writing(folder):
        dvc.rwlock.SCHEMA(noted(folder))
    assert noted(folder) == {"write": {}, "read": {}}


def test_what_can_be_read_of_a_damaged_file_still_counts(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        note(folder, str(process.pid), "sleep 60")
        with pytest.raises(BusyError), writing(folder):
            pass
        process.kill()


@pytest.mark.parametrize("kind", ["flock", "link"])
class TestTheLockOnAProject:
    def lock(self, folder: Path, kind: str) -> Any:
        return make_lock(str(folder / "lock"), tmp_dir=str(folder), hardlink_lock=kind == "link")

    def plain(self, folder: Path, kind: str) -> Any:
        return (PlainLink if kind == "link" else PlainLock)(str(folder / "lock"), tmp_dir=str(folder))

    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("regroup.safe_dvc.locks.DEFAULT_TIMEOUT", 0.3)
        monkeypatch.setattr("dvc.lock.DEFAULT_TIMEOUT", 0.3)

    def test_a_living_process_is_named(self, folder: Path, kind: str) -> None:
        with held(folder, kind, folder / "lock") as process:
            with pytest.raises(LockError, match=f"process {process.pid} on .*--wait-for-lock"):
                self.lock(folder, kind).lock()
            killed(process)
            with self.lock(folder, kind):
                pass

    def test_another_dvc_is_waited_for_and_waits(self, folder: Path, kind: str) -> None:
        with self.plain(folder, kind), pytest.raises(LockError, match="held by"):
            self.lock(folder, kind).lock()
        with self.lock(folder, kind), pytest.raises(LockError):
            self.plain(folder, kind).lock()
        with self.plain(folder, kind):
            pass

    def test_it_leaves_nothing_that_blocks(self, folder: Path, kind: str) -> None:
        lock = self.lock(folder, kind)
        for _ in range(3):
            lock.lock()
            assert lock.is_locked
            lock.unlock()
            assert not lock.is_locked
        assert {path.name for path in folder.iterdir()} <= {"lock"}


@pytest.mark.parametrize("kind", ["flock", "link", "rwlock"])
def test_where_nothing_can_be_written_dvc_says_so(folder: Path, kind: str) -> None:
    (folder / "file").touch()
    if kind == "rwlock":
        (folder / "rwlock").mkdir()
        with pytest.raises(LockError, match="rwlock: is a folder"), writing(folder):
            pass
        return
    lock = make_lock(str(folder / "file/lock"), tmp_dir=str(folder), hardlink_lock=kind == "link")
    with pytest.raises(LockError, match=r"file/lock\.lease: this lock cannot be taken: is there already"):
        lock.lock()
    # DVC gives back what it could not take again after a stage; that must not hide the words above
    lock.unlock()


def test_two_runs_of_a_stage_take_turns(project: Project) -> None:
    """Started at the same time: one waits, and finds nothing left to do."""
    project.set_param("seconds: 3")
    project.set_param("items: {a: 1, b: 20}")
    shown = project.run_twice_at_once("regroup.safe_dvc", "repro", "one@b")
    assert project.worked() == ["one-b"]
    assert sum("Stage 'one@b' didn't change" in text for text in shown) == 1


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_killed_dvc_takes_its_command_along(project: Project, shell: str) -> None:
    """Else the next run would start the stage beside it."""
    project.set_param("seconds: 120")
    project.set_param("items: {a: 1, b: 20}")
    shell = shutil.which(shell) or pytest.skip(f"no {shell} here")
    command = ("regroup.safe_dvc", "repro", "--quiet", "one@b")
    environment = project.environment | {"SHELL": shell}
    run = project.start(*command, env=environment, stdout=subprocess.DEVNULL)
    assert until(lambda: (project.root / "trace.txt").exists())
    run.kill()
    run.wait()
    # long before it would have come to its end, whatever else the machine has to do
    assert until(lambda: not project.working())
    assert [kind for kind, *_ in project.trace()] == ["start"]


@pytest.mark.parametrize(
    "command", ["cd data && ls", "A=1 env > a", "'a b' c; d", "for i in 1 2; do true; done", "f 'x"]
)
def test_a_command_that_needs_its_shell_keeps_it(command: str) -> None:
    assert _without_a_shell_between("/bin/sh", command) == ["/bin/sh", "-c", command]


def test_a_simple_command_takes_the_place_of_its_shell() -> None:
    command = "python3 'a;b.py' --item 'x' > log"
    assert _without_a_shell_between("/bin/sh", command)[-1] == f"exec {command}"


def until(true: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def test_a_cache_that_is_full_is_a_failure(tmp_path: Path) -> None:
    """DVC alone says `failed to transfer`, notes the stage as done, and ends with success."""
    stage = {"cmd": "ulimit -S -f unlimited && head -c 5000000 /dev/zero > big", "outs": ["big"]}
    dump_yaml(tmp_path / "dvc.yaml", {"stages": {"big": stage}})
    project = Project(tmp_path, user_environment() | {"SHELL": "/bin/sh"})
    project.dvc("init", "--no-scm", "-q")
    done = subprocess.run(
        ["sh", "-c", f"ulimit -S -f 2000; exec {sys.executable} -m regroup.safe_dvc repro"],
        cwd=tmp_path,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode != 0, done.stdout
    assert "File too large" in done.stdout
    assert f"could not be saved in DVC's cache {tmp_path / '.dvc/cache/files/md5'} (" in done.stdout
    assert not (tmp_path / "dvc.lock").exists()
    project.dvc("repro")
    assert "didn't change" in project.dvc("repro")
