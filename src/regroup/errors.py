"""The one exception that users are meant to read, and the words for what the operating system refuses."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO

TRACEBACK = "REGROUP_TRACEBACK"
"""Environment variable: set it, and every error shows where it was raised."""


class RegroupError(Exception):
    """Bad input or a bad setting.

    The message names the file and the key at fault and says what to do; the command line prints it
    without a traceback and exits with status 2.
    """


_WORDS = {
    errno.ENOENT: "no such file or folder",
    errno.EACCES: "permission denied; change its rights, or name another place",
    errno.EPERM: "not permitted; name another place",
    errno.EEXIST: "is there already, and is no folder",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EISDIR: "is a folder, but a file is needed",
    errno.ENOTEMPTY: "is a folder that is not empty",
    errno.EROFS: "the file system is read-only; name another place",
    errno.ENOSPC: "no space left on the disk; make room and run it again",
    errno.EDQUOT: "the disk quota is used up; make room and run it again",
    errno.EFBIG: "larger than files may be here (see `ulimit -f`)",
    errno.ENAMETOOLONG: "the name is too long",
    errno.ELOOP: "a link that leads back to itself",
    errno.EMFILE: "too many files are open; raise `ulimit -n`",
    errno.ENFILE: "too many files are open on this machine",
    errno.EIO: "the disk reports an error",
    errno.ESTALE: "the file system that holds it has gone away",
    errno.ENOMEM: "not enough memory",
}

WRITING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What happens to a file while it is written; Python's error does not name the file then."""

_MEMORY = (
    "not enough memory; give it more, or smaller batches and images (--batch, --short-side, `resources`)"
)


def os_words(error: OSError) -> str:
    """What went wrong, in a few words without the file's name."""
    if error.errno is None:
        return str(error) or type(error).__name__
    return _WORDS.get(error.errno, (error.strerror or str(error)).lower())


def check_regular(path: Path) -> None:
    """Refuse what would be waited for without end: a pipe or a device in place of a file.

    Raises:
        RegroupError: names it.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise RegroupError(f"{path}: is a pipe or a device, but a file is needed")


def explain(error: BaseException) -> str | None:
    """The message for an error that a user can mend; None for a fault of the program's own."""
    if isinstance(error, RegroupError):
        return str(error)
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        return _MEMORY
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # of `Path.resolve`
        return str(error)
    if isinstance(error, OSError):
        name = error.filename
        if name is None or isinstance(name, int) or error.errno is None:
            return os_words(error)
        return f"{os.fsdecode(name)}: {os_words(error)}"
    return None


def _is_torch_out_of_memory(error: BaseException) -> bool:
    """Torch says it with errors of its own; on a processor with a plain RuntimeError."""
    if not isinstance(error, RuntimeError):
        return False
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


@contextmanager
def readable_errors(program: str) -> Iterator[None]:
    """Around a whole program: what a user can mend is one message on standard error, not a traceback.

    The exit status is 2, 130 after an interrupt, 1 if whoever read the output has gone. Any other exception
    is a fault of the program's own, and keeps its traceback.

    Args:
        program: what the message starts with.
    """
    _open_streams()
    try:
        try:
            yield
        except SystemExit:
            _flush()
            raise
        _flush()
    except BrokenPipeError:
        _discard(sys.stdout)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        message = explain(error)
        if message is None:
            error.add_note(f"This is a fault of {program} itself; please report it with the lines above.")
        if message is None or os.environ.get(TRACEBACK):
            raise
        print(f"{program}: error: {message}", file=sys.stderr)
        raise SystemExit(2) from None


def _open_streams() -> None:
    """Give a program that was started with closed streams empty ones, and let any name be printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - open until the program ends
    if isinstance(sys.stdout, TextIOWrapper):  # a name that is not UTF-8 is shown with its bytes as \udcXX
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Write out what was printed: a full disk is an error now, and not a note after the end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _discard(sys.stdout)
        raise OSError(error.errno, error.strerror, "standard output") from None


def _discard(stream: IO[str]) -> None:
    """Let the stream lead nowhere, so that Python does not try it again when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def shown(text: object, most: int = 100) -> str:
    """Text of unknown origin for a message: one line of at most `most` characters, fit for a terminal."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= most else line[: most - 3] + "..."


def shortlist(names: list[str], most: int = 20) -> str:
    """Names with commas between; of many the first, and how many there are."""
    first = ", ".join(shown(name) for name in names[:most])
    return first if len(names) <= most else f"{first}, ... ({len(names)} in all)"
