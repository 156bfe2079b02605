"""What all benchmarks share: timing by medians, and one results file."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).resolve().parent.parent / "reports" / "bench.json"


@dataclass(frozen=True)
class Result:
    """One line of the results: ours beside another way to do the same, in the same run.

    `ratio` is how many times better ours is (None without another).
    """

    name: str
    unit: str
    ours: float
    other: float | None = None
    ratio: float | None = None


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median wall-clock time of `work`."""
    return statistics.median(_once(work) for _ in range(repeats))


def alternate(one: Callable[[], object], two: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Median times of two ways, run in turns so that a busy machine slows both."""
    times = [(_once(one), _once(two)) for _ in range(repeats)]
    first, second = zip(*times, strict=True)
    return statistics.median(first), statistics.median(second)


def in_turns(works: Mapping[str, Callable[[], object]], repeats: int = 5) -> dict[str, float]:
    """Median times of several ways, run in turns after one untimed round."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            taken = _once(work)
            if turn:
                times[name].append(taken)
    return {name: statistics.median(values) for name, values in times.items()}


def record(results: Sequence[Result], *, device: str = "") -> None:
    """Print the results and merge them into reports/bench.json by name; `device` is added to the machine."""
    for result in results:
        beside = "" if result.other is None else f"   other {result.other:,.4g}"
        times = "" if result.ratio is None else f"   ratio {result.ratio:.2f}"
        print(f"{result.name}: {result.ours:,.4g} {result.unit}{beside}{times}", flush=True)
    rows = {row["name"]: row for row in json.loads(RESULTS.read_text())} if RESULTS.is_file() else {}
    rows.update({result.name: {**asdict(result), "machine": machine() + device} for result in results})
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps([rows[name] for name in sorted(rows)], indent=2) + "\n")


def machine() -> str:
    """The processor and how many cores this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores"


def _once(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
