"""From journals to MLflow runs.

One MLflow run for each run of a stage, below a parent run for each run of the pipeline. Of the runs of the
same stage, item and profile, all but the last carry `superseded = true` and `superseded_by`. At last the
outputs that no run made here are noted with the parent, and the final model is registered.
"""

from __future__ import annotations

import fcntl
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from regroup.errors import RegroupError, shortlist, shown
from regroup.journal.location import DEFAULT, noted_uri, tracking_uri
from regroup.journal.locked import locked_outputs
from regroup.journal.stage_run import JOURNALS
from regroup.settings import read_yaml
from regroup.tracking.held import is_held
from regroup.tracking.reader import DAMAGED, Journal, find_journals, read_journal, set_aside
from regroup.tracking.registry import register
from regroup.tracking.store import Store

GIVE_UP = 3
"""After so many runs in a row that a store does not take, it is asked whether it takes any."""


def publish(root: Path, *, wait: bool = True) -> int:
    """Bring MLflow up to date with the journals below `root`; returns the number of runs that were written.

    Journals of runs that have ended are removed afterwards. What cannot be recorded, because a server is
    down, say, is reported on stderr and kept for the next time. Lines and journals that are damaged are
    reported and set aside. Nothing of this is an error: the stages' work is done.

    Args:
        root: the project's root.
        wait: if another process is publishing, wait for it and then look again; else leave it to that one.
    """
    root = root.resolve()
    written = 0
    try:
        with _only_publisher(root / JOURNALS, wait) as only:
            stores: dict[tuple[str, str], list[Journal]] = defaultdict(list)
            refused: dict[str, list[str]] = defaultdict(list)
            for journal in _journals(root / JOURNALS) if only else ():
                try:
                    # the environment first: the server may have moved since
                    noted = noted_uri(journal.start["uri"], absolute="format" not in journal.start)
                    stores[tracking_uri(root, noted), journal.start["experiment"]].append(journal)
                except RegroupError as error:
                    refused[str(error)].append(journal.name)
            for reason, names in refused.items():
                _warn(
                    f"{len(names)} run(s) could not be recorded ({shortlist(names, 3)}): {reason}. They are"
                    f" kept in {JOURNALS}; `MLFLOW_TRACKING_URI={DEFAULT} python -m regroup.tracking publish`"
                    " records them at the root"
                )
            for store, journals in stores.items():
                written += _publish(root, *store, journals)
    except OSError as error:  # a full disk, a folder that may not be written
        _warn(f"runs could not be recorded ({error}); they are kept in {JOURNALS} for another try")
    return written


def _journals(folder: Path) -> Iterator[Journal]:
    """The journals that can be published; of the others a warning."""
    for path in find_journals(folder):
        try:
            try:
                journal = read_journal(path)
            except RegroupError as error:
                place = JOURNALS / DAMAGED / set_aside(path.parent).name
                _warn(f"a damaged journal is set aside in {place}: {error}")
                continue
        except OSError as error:
            _warn(f"{path}: cannot be read or set aside ({error.strerror}); it is kept for another try")
            continue
        if journal is not None:
            yield journal


def _publish(root: Path, uri: str, experiment: str, journals: Sequence[Journal]) -> int:
    written, errors, in_a_row = 0, [], 0
    try:
        store = Store(root, uri, experiment)
        for journal in journals:
            try:
                _write(store, journal)
                written, in_a_row = written + 1, 0
            except Exception as error:  # a run that the store refuses must not hold up the others
                errors.append(f"{journal.name}: {_words(error)}")
                in_a_row += 1
                if in_a_row == GIVE_UP:
                    store.ask()
                    in_a_row = 0
        if written:
            store.tidy()
    except Exception as error:  # whatever a database or a server comes up with; the stages' work is done
        errors.append(_words(error))
    if errors:
        _warn(
            f"{len(journals) - written} of {len(journals)} runs could not be recorded at {uri}"
            f" ({errors[0]}); they are kept in {JOURNALS} for another try"
        )
    if written:
        try:
            for profile in sorted({str(journal.start["profile"]) for journal in journals}):
                _complete(store, root, profile, journals)
        except Exception as error:  # the runs are recorded; this is tried again with the next
            _warn(f"MLflow: {_words(error)}")
    return written


def _write(store: Store, journal: Journal) -> None:
    store.write(journal)
    if journal.status == "RUNNING":
        return
    if journal.damage:
        first, place = journal.damage[0], set_aside(journal)
        _warn(
            f"{journal.name}: {len(journal.damage)} damaged line(s) of its journal are set aside in "
            f"{JOURNALS / DAMAGED / place.name} (line {first.line} {first.reason}); the rest is recorded"
        )
    shutil.rmtree(journal.folder)


def _complete(store: Store, root: Path, profile: str, journals: Sequence[Journal]) -> None:
    """What no stage by itself can tell: outputs that were there already, and the final model."""
    lock = next((path for path in _locks(root) if _profile(path) == profile), None)
    if lock is not None:
        store.keep(lock, locked_outputs(lock), lambda output: is_held(root, output))
    variants = {str(j.start.get("register") or "") for j in journals if j.start["profile"] == profile} - {""}
    busy = {j.start["item"] for j in journals if j.status == "RUNNING" and j.start["stage"] == "finetune"}
    for variant in sorted(variants - busy):
        if made := register(store, root, profile, variant):
            print(f"registered in MLflow: models:/{made}")


def _locks(root: Path) -> list[Path]:
    return [path for path in (root / "dvc.lock", *sorted(root.glob("*/dvc.lock"))) if path.is_file()]


def _profile(lock: Path) -> str | None:
    params = lock.with_name("params.yaml")
    return read_yaml(params).get("name") if params.is_file() else None


def _words(error: BaseException) -> str:
    """An error in one line; of what MLflow wraps around a database's own words, these alone."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(own := getattr(found, "orig", None), BaseException):
            error = own
        found = found.__cause__
    return shown(f"{type(error).__name__}: {error}", 400)


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)


@contextmanager
def _only_publisher(folder: Path, wait: bool) -> Iterator[bool]:
    if not folder.exists():
        yield False
        return
    with (folder / "publisher.lock").open("w") as file:
        yield _lock(file.fileno(), fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        return False
    return True
