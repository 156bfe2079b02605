"""`regroup dissect`: score a checkpoint's grouping and its alignment with text, each on its own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from regroup.commands.arguments import check_distinct, path, whole
from regroup.commands.outputs import checkpoint_name, results_of
from regroup.commands.scoring import add_data_arguments, check_windows, choose_data, drawn_data, say_limit

EXAMPLES = """examples:
  regroup dissect runs/mini/noise-free-ge-384 --datasets voc
  regroup dissect runs/full/original --params full/params.yaml --datasets voc --neighbours 5 10 15 25
  regroup dissect model.pth --params full/params.yaml --datasets voc --root voc12=/datasets/voc"""


def add_parser(commands: Any) -> None:
    """Add the command `dissect` to the parser of `regroup`."""
    parser = commands.add_parser(
        "dissect",
        help="score a checkpoint's grouping and alignment, each on its own",
        description="Score what a checkpoint groups, with labels from the nearest segments of the training "
        "split, and what it calls the regions of the ground truth (Tables 1 and 2 of the thesis), with and "
        "without background. The results of the study, in reports/, stay as they are.",
        epilog=EXAMPLES,
    )
    add_data_arguments(parser)
    parser.add_argument("--neighbours", nargs="+", type=whole(1, 10_000), metavar="K", help="(the profile's)")
    parser.add_argument(
        "--features-per-class", type=whole(1, 1_000_000), metavar="N", help="in the bank (the profile's)"
    )
    parser.add_argument("--out", type=path, metavar="FOLDER", help="(out/dissect/PROFILE/CHECKPOINT)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from regroup.analysis.dissection import dissect
    from regroup.analysis.dissection_report import by_analysis, write_dissection
    from regroup.analysis.settings import DissectParams
    from regroup.backbones import load_checkpoint
    from regroup.device import choose_device
    from regroup.params import load_params
    from regroup.settings import parse

    params = load_params(arguments.params)
    settings = params.segmentation
    datasets, roots = choose_data(arguments, params)
    name = checkpoint_name(arguments.checkpoint)
    check_distinct(arguments.neighbours or (), "--neighbours")
    made = results_of("dissect", params.name, arguments.checkpoint, arguments.out)
    values = params.needed(params.dissect, "dissect").model_dump()
    if arguments.neighbours:
        values.update(neighbours=arguments.neighbours, chosen=arguments.neighbours[0])
    if arguments.features_per_class is not None:
        values.update(features_per_class=arguments.features_per_class)
    chosen = parse(DissectParams, values, Path("command line"))
    model = load_checkpoint(arguments.checkpoint).to(choose_device(arguments.device or settings.device))
    check_windows(settings, model.patch_size)
    batch = arguments.batch or settings.batch
    scores = by_analysis(
        {
            name: dissect(model, dataset, settings, chosen, roots[dataset.source], batch=batch, progress=True)
            for name, dataset in datasets.items()
        }
    )
    with made.written() as folder:
        write_dissection(
            scores,
            folder,
            variant=name,
            profile=params.name,
            drawn=drawn_data(arguments, params, datasets),
            checkpoint=arguments.checkpoint,
        )
    print((made.folder / "dissection.md").read_text(encoding="utf-8"))
    say_limit(arguments.limit, {name: one.images for name, one in next(iter(scores.values())).items()})
    print(f"written: {', '.join(str(path) for path in made.paths)}")
