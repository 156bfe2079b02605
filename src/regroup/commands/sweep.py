"""`regroup sweep`: score a checkpoint over a grid of inference settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regroup.commands.datasets import add_data_arguments, choose_data

EXAMPLES = """examples:
  regroup sweep runs/mini/original
  regroup sweep runs/full/original --params full/params.yaml --datasets coco voc \\
      --short-side 448 512 --threshold 0.9 0.95 0.98 0.99          Table 12 of the thesis
  regroup sweep model.pth --params full/params.yaml --root voc12=/datasets/voc --datasets voc"""


def add_parser(commands: Any) -> None:
    """Add the command `sweep` to the parser of `regroup`."""
    parser = commands.add_parser(
        "sweep",
        help="score a checkpoint over a grid of inference settings",
        description="Score a checkpoint on datasets of a profile over every combination of resolution, "
        "window, stride, top-k and background threshold. The model runs once for each resolution, window and "
        "stride.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    parser.add_argument("--short-side", nargs="+", type=int, metavar="PIXELS")
    parser.add_argument("--window", nargs="+", type=int, metavar="PIXELS")
    parser.add_argument("--stride", nargs="+", type=int, metavar="PIXELS")
    parser.add_argument("--top-k", nargs="+", type=int, metavar="K")
    parser.add_argument("--threshold", nargs="+", type=float, metavar="T", help="(0.9 0.95 0.98 0.99)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="(reports/PROFILE/sweep/CHECKPOINT)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from regroup.device import choose_device
    from regroup.model import load_checkpoint
    from regroup.params import load_params
    from regroup.segmentation.settings import SweepGrid
    from regroup.segmentation.sweep import best, format_markdown, sweep, write_sweep
    from regroup.segmentation.sweep_figure import write_heat_maps
    from regroup.settings import parse

    params = load_params(arguments.params)
    settings = params.evaluate
    datasets, roots = choose_data(arguments, params)
    given = {
        key: getattr(arguments, key) for key in SweepGrid.model_fields if getattr(arguments, key) is not None
    }
    grid = parse(SweepGrid, given, Path("command line"))
    model = load_checkpoint(arguments.checkpoint).to(choose_device(arguments.device or settings.device))
    batch = arguments.batch or settings.batch
    rows = sweep(
        model,
        datasets,
        settings,
        grid,
        roots,
        batch=batch,
        progress=True,
        text_cache=params.layout.text_cache,
    )
    name = arguments.checkpoint.stem
    out = arguments.out or Path("reports", params.name, "sweep", name)
    title = f"Inference settings, {name} ({params.name})"
    written = write_sweep(rows, out, title=title) + write_heat_maps(rows, out, profile=params.name)
    print(format_markdown(rows, title))
    for row in best(rows).values():
        threshold = "" if row.threshold is None else f", threshold {row.threshold:g}"
        print(
            f"best on {row.dataset}: mIoU {row.miou:.2f} at resolution {row.short_side}, "
            f"window {row.window}, stride {row.stride}, top-{row.top_k}{threshold}"
        )
    print(f"written: {', '.join(str(path) for path in written)}")
