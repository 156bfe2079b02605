"""How a stage is run, and how what it made comes into the cache."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

import dvc.output
import dvc.stage.run
from dvc.commands.repro import CmdRepro
from dvc.exceptions import DvcException
from dvc.stage import PipelineStage, Stage
from dvc.stage.cache import RunCacheNotFoundError, StageCache

from regroup.lease import LeaseLostError
from regroup.safe_dvc.lockfile import refresh
from regroup.safe_dvc.rwlock import BusyError

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
_reproduce_or_fail = Stage.reproduce
_restore_or_fail = StageCache.restore
_transfer_what_fits = dvc.output.otransfer
_prepare_orphans = dvc.stage.run.prepare_kwargs
_shell_command = dvc.stage.run._make_cmd
_start = CmdRepro.__init__


class CacheError(DvcException):
    """DVC's cache could not take what a stage made."""


def install() -> None:
    """Change how DVC runs stages."""
    Stage.reproduce = _reproduce
    StageCache.restore = _restore
    dvc.output.otransfer = _transfer
    dvc.stage.run.prepare_kwargs = _prepare
    dvc.stage.run._make_cmd = _without_a_shell_between
    CmdRepro.__init__ = _start_patiently


def _start_patiently(command: CmdRepro, arguments: Any) -> None:
    """`dvc repro` waits for its turn; other commands do with --wait-for-lock."""
    arguments.wait_for_lock = True
    _start(command, arguments)


def _reproduce(stage: Stage, *arguments: Any, **options: Any) -> Any:
    """DVC gives up when another process is at the stage; this waits, and looks again at what is to do."""
    while True:
        if isinstance(stage, PipelineStage):
            refresh(stage)
        try:
            return _reproduce_or_fail(stage, *arguments, **options)
        except LeaseLostError as error:
            raise DvcException(str(error)) from None  # DVC would print both
        except BusyError as busy:
            if options.get("dry"):
                raise
            # the other one needs the lock on the project to finish
            stage.repo.lock.unlock()
            try:
                busy.wait()
            finally:
                stage.repo.lock.lock()
                stage.repo._reset()


def _restore(cache: StageCache, stage: PipelineStage, *arguments: Any, **options: Any) -> Any:
    """DVC looks for a stage's earlier results by hashing its inputs, in a dry run too, which has none yet."""
    try:
        return _restore_or_fail(cache, stage, *arguments, **options)
    except FileNotFoundError:
        if not options.get("dry"):
            raise
        raise RunCacheNotFoundError(stage) from None


def _transfer(source: Any, cache: Any, *arguments: Any, **options: Any) -> Any:
    """DVC logs which files its cache could not take, and goes on as if it had them."""
    result = _transfer_what_fits(source, cache, *arguments, **options)
    if result.failed:
        free = ""
        if os.path.isdir(cache.path):  # noqa: PTH112 - elsewhere it is no path
            free = f" ({shutil.disk_usage(cache.path).free / 1e6:,.1f} MB are free there)"
        raise CacheError(
            f"{len(result.failed)} of a stage's outputs could not be saved in DVC's cache {cache.path}{free};"
            " the stage does not count as done. Make room, and start again"
        )
    return result


def _prepare(*arguments: Any, **options: Any) -> dict[str, Any]:
    """A stage's command must not outlive its DVC: another would start the stage beside it."""
    prepared: dict[str, Any] = _prepare_orphans(*arguments, **options)
    if sys.platform == "linux":
        prepared["preexec_fn"] = _end_with(os.getpid(), ctypes.CDLL(None).prctl)
    return prepared


def _without_a_shell_between(executable: str | None, command: str) -> Any:
    """The shell gives its process to a simple command; else only the shell would end with DVC.

    bash does so by itself, Debian's sh (dash) does not.
    """
    if executable is not None and _is_simple(command):
        command = f"exec {command}"
    return _shell_command(executable, command)


def _is_simple(command: str) -> bool:
    """Whether a shell command is one program and its arguments; in doubt not."""
    try:
        words = list(shlex.shlex(command, posix=True, punctuation_chars=True))
    except ValueError:  # quotes that do not close: the shell will say so
        return False
    operators = any(set(word) <= set("();|&") for word in words)
    return bool(words) and not operators and "\n" not in command and shutil.which(words[0]) is not None


def _end_with(parent: int, prctl: Callable[..., int]) -> Callable[[], None]:
    def in_the_child() -> None:
        # the word with which a cluster ends a job: a run that trains saves its state
        prctl(_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return in_the_child
