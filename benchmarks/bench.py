"""`regroup bench` in one process, beside each of its evaluations in a process of its own with nothing kept.

    python benchmarks/bench.py [--checkpoint pretrain/groupvit-mini] [--params FILE ...] [--tasks NAME ...]

Needs the data of the parameters' profile (`dvc repro`; by default mini and the studies of the bench). What is
compared is processor seconds, of the processes and of what they do beyond starting: a process that finds
everything kept tells what that costs. All metrics must be the same to the last digit; exit status 1 if one
differs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import Result, record

ROOT = Path(__file__).resolve().parents[1]


def make_project(folder: Path) -> None:
    """A folder in which the command runs as in the project, with caches of its own."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "studies", folder / "studies")
    for name in ("data", "pretrain", "runs", "src"):
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)


def bench(words: Sequence[str], out: Path) -> float:
    """Processor seconds of a call, its threads and children included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", "from regroup.cli import main; main()", "bench", *words]
    # one thread: others that wait would count as work
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--quiet", "--out", str(out)], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr or done.stdout}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def forget() -> None:
    """Remove what is kept between calls."""
    shutil.rmtree(".state", ignore_errors=True)


def scores(out: Path) -> dict[str, Any]:
    """What is in the metrics files below a folder, by evaluation."""
    files = sorted(out.rglob("metrics.json"))
    return {file.parent.relative_to(out).as_posix(): json.loads(file.read_text()) for file in files}


def evaluations(params: Sequence[Path], tasks: Sequence[str] | None) -> list[str]:
    """The names of what is run."""
    from regroup.bench.plan import chosen, collect
    from regroup.params import load_params
    from regroup.profile import follow_profile

    for file in params:
        follow_profile(file)
    return [one.name for one in chosen(collect([load_params(file) for file in params]), tasks)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="pretrain/groupvit-mini")
    parser.add_argument("--params", nargs="+", type=Path)
    parser.add_argument("--tasks", nargs="+")
    arguments = parser.parse_args()
    checkpoint = str((ROOT / arguments.checkpoint).resolve())
    from regroup.commands.bench import _default_params

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        make_project(Path(folder))
        params = arguments.params or _default_params()
        names = evaluations(params, arguments.tasks)
        given = [checkpoint, "--params", *map(str, params), "--tasks"]
        together = bench([*given, *names], Path("together"))
        start = bench([*given, *names], Path("together"))  # all is kept
        alone, starts = {}, {}
        for name in names:
            forget()
            alone[name] = bench([*given, name], Path("alone"))
            starts[name] = bench([*given, name], Path("alone"))
            print(f"{name}: {alone[name]:.1f} s", flush=True)
        forget()
        one, other = scores(Path("together")), scores(Path("alone"))
    differing = [name for name in names if one.get(name) != other.get(name) or name not in one]
    print(f"{len(names)} evaluations, {len(differing)} with other metrics {' '.join(differing)}")
    apart, work = sum(alone.values()), together - start
    beyond = apart - sum(starts.values())
    record(
        [
            Result("bench of a checkpoint, processor time", "s", together, apart, apart / together),
            Result("bench of a checkpoint beyond starting", "s", work, beyond, beyond / work),
        ]
    )
    raise SystemExit(bool(differing))


if __name__ == "__main__":
    main()
