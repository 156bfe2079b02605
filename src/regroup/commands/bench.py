"""`regroup bench`: score checkpoints on every evaluation of some studies, in one process."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regroup.commands.arguments import (
    MOST_IMAGES,
    add_device,
    check_distinct,
    check_known,
    path,
    real,
    text,
    whole,
)
from regroup.commands.outputs import RESULTS, Made, check_output, checkpoint_name, results_folder
from regroup.commands.scoring import add_root, any_drawn
from regroup.errors import RegroupError
from regroup.study import STUDIES

if TYPE_CHECKING:
    from regroup.bench.plan import Entry
    from regroup.bench.score import Done

EXAMPLES = """examples:
  regroup bench runs/mini/final
  regroup bench runs/mini/original runs/mini/final --tasks retrieval segmentation
  regroup bench model.pth --params full/params.yaml --root coco=/datasets/coco --limit 500
  regroup bench pretrain/clip-mini --device cpu --out out/clip"""

STUDIES_OF_THE_BENCH = ("bench", "dense")
"""Their parameters are the default; where none of them is there, those of the default profile."""

FILES = ("bench.csv", "bench.md", "bench.npz", "bench.png", "bench.svg")


def add_parser(commands: Any) -> None:
    """Add the command `bench` to the parser of `regroup`."""
    parser = commands.add_parser(
        "bench",
        help="score checkpoints on every evaluation of some studies, in one process",
        description="Score one or several checkpoints on all evaluations of one or several parameter files, "
        "and print the rows that papers print. Pictures that evaluations share are encoded once. What was "
        "scored before, with the same weights, options, code and data, is kept. An evaluation that cannot "
        "be run is named at the end, and the exit status is 1 then. The results of the studies, in "
        "reports/, stay as they are.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "checkpoints",
        nargs="+",
        type=path,
        metavar="CHECKPOINT",
        help="a folder of ours or of Hugging Face, or a .pth",
    )
    parser.add_argument(
        "--params",
        nargs="+",
        type=path,
        metavar="FILE",
        default=_default_params(),
        help="whose `evaluate:` is run (those of studies/bench and studies/dense)",
    )
    parser.add_argument(
        "--tasks",
        nargs="+",
        type=text,
        metavar="NAME",
        help="of the entries of `evaluate:`; a member of several tasks together is ENTRY/MEMBER (all)",
    )
    add_root(parser)
    parser.add_argument(
        "--limit",
        type=whole(1, MOST_IMAGES),
        metavar="N",
        help="only the first N images of each data set, where an evaluation has such an option",
    )
    parser.add_argument(
        "--batch", type=whole(1, 65_536), metavar="N", help="images or windows in a pass of the model"
    )
    add_device(parser, None)
    parser.add_argument(
        "--out",
        type=path,
        metavar="FOLDER",
        help="(out/bench/PROFILE/CHECKPOINT; of several checkpoints out/bench/PROFILE, a folder each below)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress, the tables alone")
    parser.set_defaults(run=_run)


def _default_params() -> list[Path]:
    """The studies of the bench, made yet or not; else the default profile."""
    found = [STUDIES / name for name in STUDIES_OF_THE_BENCH if (STUDIES / name / "variants.yaml").is_file()]
    return [folder / "params.yaml" for folder in found] or [Path("params.yaml")]


def _run(arguments: argparse.Namespace) -> int:
    import torch

    from regroup.backbones import load_checkpoint
    from regroup.bench.score import score, usage

    entries, given = _entries(arguments)
    params = entries[0].params
    # as the stage: its last digits, and on a busy machine threads that wait for each other take far longer
    torch.set_num_threads(params.resources["evaluate"].threads)
    checkpoints = _named(arguments.checkpoints)
    several = len(checkpoints) > 1
    out = arguments.out or (
        RESULTS / "bench" / params.data
        if several
        else results_folder("bench", params.data, arguments.checkpoints[0])
    )
    made = _check_free(out, [out / name for name in checkpoints] if several else [out], entries)
    for other in list(checkpoints.values())[1:]:  # the first one's turn comes at once
        load_checkpoint(other)
    done: dict[str, list[Done]] = {}
    started = time.perf_counter()
    for name, checkpoint in checkpoints.items():
        model = load_checkpoint(checkpoint)
        done[name] = []
        for one in score(
            model,
            checkpoint,
            entries,
            out / name if several else out,
            _written,
            name=name,
            given=given,
            progress=not arguments.quiet,
        ):
            done[name].append(one)
            if not arguments.quiet:
                print(f"{f'{name}: ' if several else ''}{_line(one)}", flush=True)
    if not arguments.quiet:
        print(f"{time.perf_counter() - started:.1f} s in all{_saved(usage())}\n", flush=True)
    title = f"Bench of {', '.join(done)} ({params.data}{'; given: ' if given else ''}{', '.join(given)})"
    return _report(done, made, title, params.data, _drawn(entries, given), arguments.quiet)


def _entries(arguments: argparse.Namespace) -> tuple[list[Entry], dict[str, Path]]:
    """What is run, and the folders that were given; everything that can be checked beforehand is."""
    from regroup.bench.plan import check_roots, chosen, collect, known_names, with_options, with_roots
    from regroup.params import load_params

    check_distinct([real(file) for file in arguments.params], "--params")
    known = collect([load_params(file) for file in arguments.params])
    if arguments.tasks is not None:
        check_known(arguments.tasks, known_names(known), "--tasks")
    some = chosen(known, arguments.tasks)
    given = check_roots(arguments.root, some)
    options = {key: getattr(arguments, key) for key in ("limit", "batch", "device")}
    options = {key: value for key, value in options.items() if value is not None}
    entries, without = [], dict[str, list[str]]()
    for one in some:
        entry, lacking = with_options(with_roots(one, given), options)
        entries.append(entry)
        for key in lacking:
            without.setdefault(key, []).append(entry.name)
    for key, names in without.items():
        print(f"--{key}: means nothing to {', '.join(names)}")
    if all(entry.missing for entry in entries):
        raise RegroupError("\n".join(f"{entry.name}: {entry.missing}" for entry in entries))
    return entries, given


def _named(checkpoints: Sequence[Path]) -> dict[str, Path]:
    """Checkpoints by the names that their results get."""
    check_distinct([str(one) for one in checkpoints], "CHECKPOINT")
    found: dict[str, Path] = {}
    for one in checkpoints:
        name = checkpoint_name(one)
        if name in found:
            raise RegroupError(
                f"CHECKPOINT: {found[name]} and {one} are both called {name}; score them in two calls, each "
                "with its --out"
            )
        found[name] = one
    return found


def _check_free(out: Path, folders: Sequence[Path], entries: Sequence[Entry]) -> Made:
    """Refuse, before any work, to write where something else lies; return the record of the tables."""
    check_output(out)
    made = Made(out, "bench")
    made.check(FILES)
    for folder in folders:
        for entry in entries:
            place = folder / entry.name
            for one in (place, *place.parents):
                if one == out:
                    break
                if os.path.lexists(one) and not one.is_dir():
                    raise RegroupError(f"--out: {one} is a file, but a folder is needed; name another")
            Made(place, "bench").check_all()
    return made


def _written(folder: Path) -> AbstractContextManager[Path]:
    return Made(folder, "bench").written()


def _line(one: Done) -> str:
    if one.fault is not None:
        return f"{one.entry.name}: not scored"
    return f"{one.entry.name}: " + ("kept from before" if one.kept else f"{one.seconds:.1f} s")


def _saved(counts: Mapping[str, tuple[int, int]]) -> str:
    """What keeping features has saved."""
    told = [
        f"{encoded:,} {what} encoded and {read:,} read again"
        for what, (encoded, read) in counts.items()
        if encoded or read
    ]
    return f"; features: {', '.join(told)}" if told else ""


def _drawn(entries: Sequence[Entry], given: Mapping[str, Path]) -> bool:
    """Whether any of the data is drawn by this project; folders that are given are whatever they are."""
    return any(any_drawn(entry.params, entry.roots, given) for entry in entries)


def _report(
    done: Mapping[str, Sequence[Done]], made: Made, title: str, profile: str, drawn: bool, quiet: bool
) -> int:
    """Write and print the tables; return the exit status."""
    from regroup.bench.figure import bench_chart, bench_figure
    from regroup.bench.view import bench_console, bench_csv, bench_markdown
    from regroup.drawing.figures import save_figure

    scores = {
        name: {one.entry.name: one.metrics for one in some if one.metrics is not None}
        for name, some in done.items()
    }
    faults = {
        name: {one.entry.name: one.fault for one in some if one.fault is not None}
        for name, some in done.items()
    }
    lines = [f"{name}, {task}: {why}" for name, some in faults.items() for task, why in some.items()]
    if not any(scores.values()):
        raise RegroupError("nothing was scored:\n" + "\n".join(lines))
    chart = bench_chart(scores, title=title, profile=profile, drawn=drawn)
    with made.written() as folder:
        (folder / "bench.md").write_text(
            bench_markdown(scores, faults, title=title, profile=profile, drawn=drawn), encoding="utf-8"
        )
        (folder / "bench.csv").write_text(bench_csv(scores), encoding="utf-8")
        if not chart.empty:
            save_figure(bench_figure(chart), folder / "bench", chart.arrays())
    print(bench_console(scores, profile=profile, drawn=drawn))
    if not quiet:
        print(
            f"written: {made.folder}: {', '.join(file.name for file in made.paths)}; a folder an evaluation"
        )
        if figures := [str(file) for some in done.values() for one in some for file in one.figures]:
            print(f"figures: {', '.join(figures)}")
    for line in lines:
        print(f"not scored: {line}")
    return 1 if lines else 0
