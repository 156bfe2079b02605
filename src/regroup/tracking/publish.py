"""From journals to MLflow runs.

One MLflow run for each run of a stage, below a parent run for each run of the pipeline. Of the runs of the
same stage, item and profile, all but the last carry `superseded = true` and `superseded_by`. At last the
outputs that no run made here are noted with the parent, and the final model is registered.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from regroup.settings import read_yaml
from regroup.tracking.journal import JOURNALS
from regroup.tracking.lock import locked_outputs
from regroup.tracking.reader import Journal, read_journals
from regroup.tracking.registry import register
from regroup.tracking.store import Store

GIVE_UP = 3
"""So many runs that a store does not take mean that it takes none."""


def publish(root: Path, *, wait: bool = True) -> int:
    """Bring MLflow up to date with the journals below `root`; returns the number of runs that were written.

    Journals of runs that have ended are removed afterwards. What cannot be recorded, because a server is
    down, say, is reported on stderr and kept for the next time.

    Args:
        root: the project's root.
        wait: if another process is publishing, wait for it and then look again; else leave it to that one.
    """
    stores: dict[tuple[str, str], list[Journal]] = defaultdict(list)
    with _only_publisher(root / JOURNALS, wait) as only:
        for journal in read_journals(root / JOURNALS) if only else ():
            # the environment again: the server may have moved since
            uri = os.environ.get("MLFLOW_TRACKING_URI") or journal.start["uri"]
            stores[uri, journal.start["experiment"]].append(journal)
        return sum(_publish(root, *store, journals) for store, journals in stores.items())


def _publish(root: Path, uri: str, experiment: str, journals: Sequence[Journal]) -> int:
    written, errors = 0, []
    try:
        store = Store(root, uri, experiment)
        for journal in journals:
            try:
                store.write(journal)
                written += 1
            except Exception as error:  # a run that the store refuses must not hold up the others
                errors.append(error)
                if len(errors) == GIVE_UP:
                    break
        if written:
            store.tidy()
    except Exception as error:  # whatever a database or a server comes up with; the stages' work is done
        errors.append(error)
    if errors:
        print(
            f"warning: {len(journals) - written} of {len(journals)} runs could not be recorded at {uri}"
            f" ({type(errors[0]).__name__}: {errors[0]}); they are kept in {JOURNALS} for another try",
            file=sys.stderr,
        )
    elif written:
        try:
            for profile in sorted({str(journal.start["profile"]) for journal in journals}):
                _complete(store, root, profile, journals)
        except Exception as error:  # the runs are recorded; this is tried again with the next
            print(f"warning: MLflow: {type(error).__name__}: {error}", file=sys.stderr)
    return written


def _complete(store: Store, root: Path, profile: str, journals: Sequence[Journal]) -> None:
    """What no stage by itself can tell: outputs that were there already, and the final model."""
    lock = next((path for path in _locks(root) if _profile(path) == profile), None)
    if lock is not None:
        store.keep(lock, {out.path: out.md5 for out in locked_outputs(lock)})
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


@contextmanager
def _only_publisher(folder: Path, wait: bool) -> Iterator[bool]:
    if not folder.exists():
        yield False
        return
    with (folder / "publisher.lock").open("w") as file:
        yield _lock(file.fileno(), wait=wait)


def _lock(descriptor: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
