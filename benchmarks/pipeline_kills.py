"""The whole study killed at random times and started again: does it end in the bytes of an undisturbed run?

    python benchmarks/pipeline_kills.py [--kills 50] [--seed 0] [--engine snakemake|dvc]

Needs this project with `make repro` done: its files are what an undisturbed run made. A fresh clone,
without any cache, then runs `make repro` until so many kills are spent. A kill is a SIGKILL, by lot, to
everything, to the scheduler alone (its jobs go on as orphans), to one `dvc` job alone, or to one stage
alone. Nobody reaps the dead: this process is their foster parent and leaves them zombies, as a container
does whose first process reaps nothing. After the last kill one more `make repro` has to end by itself.
Compared is the digest of every file below data/, runs/ and reports/ (what holds run times or is not an
output is left out). Exit status 1 if any differs or is missing, or if a run that nobody killed failed.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import psutil
from common import Result, record

ROOT = Path(__file__).resolve().parents[1]
PR_SET_CHILD_SUBREAPER = 36
NOT_OUTPUTS = frozenset({"index.html", "bench.json", ".gitignore"})
"""The page with the facts of a run, what benchmarks print, and DVC's lists of what git ignores."""
TARGETS = {"all": 5, "scheduler": 2, "job": 2, "stage": 2}
"""What a kill hits, and how often beside the others."""


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own; it is never waited for."""
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise SystemExit("this kernel knows no subreaper: kills without zombies would prove less")


def launch(clone: Path, engine: str) -> subprocess.Popen[bytes]:
    ready = ROOT / ".venv/.ready"
    command = ["make", f"--assume-old={ready}", f"VENV={ROOT / '.venv'}", f"ENGINE={engine}", "repro"]
    environment = os.environ | {"PYTHONPATH": str(clone / "src")}
    with (clone.parent / "log").open("ab") as log:
        return subprocess.Popen(command, cwd=clone, env=environment, stdout=log, stderr=log)


def descendants() -> list[psutil.Process]:
    """Everything alive below this process, orphans included, oldest first."""
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return sorted(found, key=lambda process: process.create_time())


def matching(target: str) -> list[psutil.Process]:
    """What a kill of this kind could hit now."""

    def is_target(process: psutil.Process) -> bool:
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            return False
        stage = "stages/" in line and "--params" in line
        return {
            "all": True,
            "stage": stage and "repro" not in line,
            "job": "repro" in line and "--single-item" in line and not stage,
            "scheduler": ("snakemake" in line and "--single-item" not in line) or line.startswith("make "),
        }[target]

    return [process for process in descendants() if is_target(process)]


def strike(target: str, rng: random.Random) -> str:
    """SIGKILL to what `target` says, or to everything if there is no such process now; says what was hit."""
    found = matching(target)
    if not found:
        target, found = "all", matching("all")
    hit = found if target in ("all", "scheduler") else [rng.choice(found)]
    for process in hit:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    return target


def written(project: Path) -> dict[str, str]:
    """Digest of every output, by its path from the project's root."""
    return {
        str(path.relative_to(project)): hashlib.sha256(path.read_bytes()).hexdigest()
        for top in ("data", "runs", "reports")
        for path in sorted((project / top).rglob("*"))
        if path.is_file() and path.name not in NOT_OUTPUTS
    }


def disturb(clone: Path, engine: str, kills: int, longest: float, rng: random.Random) -> Counter[str]:
    """Start and kill the run so many times; what was hit, and how often.

    Ends early when there is nothing left to do. A run that fails though nobody struck it ends the trial.
    """
    hits: Counter[str] = Counter()
    while hits.total() < kills:
        run = launch(clone, engine)
        try:
            run.wait(rng.uniform(3, longest))
        except subprocess.TimeoutExpired:
            target = strike(rng.choices([*TARGETS], [*TARGETS.values()])[0], rng)
            hits[target] += 1
            if target in ("job", "stage"):  # the run itself lives, and has to notice
                run.wait(300)
            # a `make` that was killed is not waited for: it stays a zombie, as its jobs do
        else:
            if run.returncode:
                raise SystemExit(f"a run failed that nobody struck:\n{tail(clone)}")
            print("  nothing is left to do", flush=True)
            break
        trained = len([*(clone / "runs").glob("*/*/model.safetensors")])
        print(f"  kill {hits.total()}: {target}; {trained} runs are trained", flush=True)
    return hits


def tail(clone: Path) -> str:
    return (clone.parent / "log").read_text(errors="replace")[-3000:]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument(
        "--longest", type=float, default=45, help="seconds; a run is killed after 3 to so many"
    )
    parser.add_argument("--engine", choices=("snakemake", "dvc"), default="snakemake")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    adopt_orphans()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        clone = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        began = time.monotonic()
        hits = disturb(clone, arguments.engine, arguments.kills, arguments.longest, rng)
        last = launch(clone, arguments.engine)
        status = last.wait()
        minutes = (time.monotonic() - began) / 60
        undisturbed, disturbed = written(ROOT), written(clone)
        if status:
            print(tail(clone))
    differing = sorted(
        name for name in undisturbed | disturbed if undisturbed.get(name) != disturbed.get(name)
    )
    print("\n".join(f"  differs: {name}" for name in differing[:40]), end="\n" * bool(differing))
    kinds = ", ".join(f"{name} {count}" for name, count in hits.items())
    print(
        f"{hits.total()} kills ({kinds}) in {minutes:.0f} minutes; last run: exit status {status}; "
        f"{len(undisturbed)} files, {len(differing)} differ"
    )
    record([Result("whole study killed and started again: files that differ", "files", len(differing))])
    return int(bool(status or differing))


if __name__ == "__main__":
    sys.exit(main())
