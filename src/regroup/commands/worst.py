"""`regroup worst`: the images that a checkpoint segments worst, to be looked at."""

from __future__ import annotations

import argparse
from typing import Any

from regroup.commands.arguments import path, whole
from regroup.commands.outputs import checkpoint_name, results_of
from regroup.commands.scoring import add_data_arguments, check_windows, choose_data, drawn_data, say_limit

EXAMPLES = """examples:
  regroup worst runs/mini/original --datasets voc
  regroup worst runs/full/original --params full/params.yaml --datasets voc coco -n 24
  regroup worst model.pth --params full/params.yaml --datasets voc --root voc12=/datasets/voc"""

MOST = 100
"""Images of a figure."""


def add_parser(commands: Any) -> None:
    """Add the command `worst` to the parser of `regroup`."""
    parser = commands.add_parser(
        "worst",
        help="show the images that a checkpoint segments worst",
        description="Score every image of datasets of a profile by itself and show those of the lowest mIoU: "
        "picture, ground truth and prediction, and a table with the mistake that most of an image's pixels "
        "are of. The results of the study, in reports/, stay as they are.",
        epilog=EXAMPLES,
    )
    add_data_arguments(parser)
    parser.add_argument(
        "-n", "--images", type=whole(1, MOST), default=12, metavar="N", help="of each dataset (12)"
    )
    parser.add_argument("--out", type=path, metavar="FOLDER", help="(out/worst/PROFILE/CHECKPOINT)")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from regroup.analysis.worst import find_worst, write_worst
    from regroup.backbones import load_checkpoint
    from regroup.device import choose_device
    from regroup.params import load_params

    params = load_params(arguments.params)
    settings = params.segmentation
    datasets, roots = choose_data(arguments, params)
    name = checkpoint_name(arguments.checkpoint)
    made = results_of("worst", params.name, arguments.checkpoint, arguments.out)
    model = load_checkpoint(arguments.checkpoint).to(choose_device(arguments.device or settings.device))
    check_windows(settings, model.patch_size)
    found = find_worst(
        model,
        datasets,
        settings,
        roots,
        number=arguments.images,
        batch=arguments.batch or settings.batch,
        progress=True,
        text_cache=params.layout.text_cache,
    )
    with made.written() as folder:
        write_worst(
            found, folder, checkpoint=name, profile=params.name, drawn=drawn_data(arguments, params, datasets)
        )
    for key, one in found.items():
        print(f"{key}: the worst of {one.scored:,} images")
        for image in one.images:
            true, taken, share = image.mistake(one.dataset)
            mistake = f"   {true} taken for {taken}: {share:.0%} of its pixels" if share else ""
            print(f"  mIoU {image.score.miou:5.1f}  {image.score.image}{mistake}")
    say_limit(arguments.limit, {key: one.scored for key, one in found.items()})
    print(f"written: {', '.join(str(path) for path in made.paths)}")
