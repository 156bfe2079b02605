"""`regroup sweep`: score a checkpoint over a grid of inference settings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regroup.commands.arguments import MOST_PIXELS, check_distinct, number, path, whole
from regroup.commands.outputs import checkpoint_name, results_of
from regroup.commands.scoring import add_data_arguments, check_windows, choose_data, drawn_data, say_limit

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
        "stride. The results of the study, in reports/, stay as they are.",
        epilog=EXAMPLES,
    )
    add_data_arguments(parser)
    pixels = whole(1, MOST_PIXELS)
    parser.add_argument("--short-side", nargs="+", type=pixels, metavar="PIXELS", help="(the profile's)")
    parser.add_argument("--window", nargs="+", type=pixels, metavar="PIXELS", help="(the profile's)")
    parser.add_argument("--stride", nargs="+", type=pixels, metavar="PIXELS", help="(the profile's)")
    parser.add_argument("--top-k", nargs="+", type=whole(1, 1000), metavar="K", help="(the profile's)")
    parser.add_argument(
        "--threshold",
        nargs="+",
        type=number(0, 1),
        metavar="T",
        help="of background (of the profile's `sweep`)",
    )
    parser.add_argument("--out", type=path, metavar="FOLDER", help="(out/sweep/PROFILE/CHECKPOINT)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from regroup.backbones import load_checkpoint
    from regroup.device import choose_device
    from regroup.params import load_params
    from regroup.segmentation.settings import SweepGrid
    from regroup.segmentation.sweep import best, encodings, format_markdown, sweep, write_sweep
    from regroup.segmentation.sweep_figure import write_heat_maps
    from regroup.settings import parse

    params = load_params(arguments.params)
    settings = params.segmentation
    datasets, roots = choose_data(arguments, params)
    given = {
        key: getattr(arguments, key) for key in SweepGrid.model_fields if getattr(arguments, key) is not None
    }
    for key, values in given.items():
        check_distinct(values, f"--{key.replace('_', '-')}")
    if params.sweep is not None:
        given.setdefault("threshold", list(params.sweep.threshold))
    grid = parse(SweepGrid, given, Path("command line"))
    made = results_of("sweep", params.name, arguments.checkpoint, arguments.out)
    model = load_checkpoint(arguments.checkpoint).to(choose_device(arguments.device or settings.device))
    for point in encodings(settings, grid):
        check_windows(point, model.patch_size)
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
    title = f"Inference settings, {checkpoint_name(arguments.checkpoint)} ({params.name})"
    with made.written() as folder:
        write_sweep(rows, folder, title=title)
        write_heat_maps(rows, folder, profile=params.name, drawn=drawn_data(arguments, params, datasets))
    print(format_markdown(rows, title))
    for row in best(rows).values():
        threshold = "" if row.threshold is None else f", threshold {row.threshold:g}"
        print(
            f"best on {row.dataset}: mIoU {row.miou:.2f} at resolution {row.short_side}, "
            f"window {row.window}, stride {row.stride}, top-{row.top_k}{threshold}"
        )
    say_limit(arguments.limit, {row.dataset: row.images for row in rows})
    print(f"written: {', '.join(str(path) for path in made.paths)}")
