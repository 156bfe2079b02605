"""`regroup segment`: segment images into classes of your own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  regroup segment dog.jpg --classes "dog, grass, sky"
  regroup segment photos/ --classes "cat, sofa" --background 0.9 --out cats
  find . -name '*.jpg' | regroup segment - --classes "boat, water" --checkpoint runs/mini/refined-384"""

MINI = Path("pretrain/groupvit-mini")


def add_parser(commands: Any) -> None:
    """Add the command `segment` to the parser of `regroup`."""
    parser = commands.add_parser(
        "segment",
        help="segment images with class names of your own",
        description="Segment images into the classes you name. For each image: an overlay with a legend, the "
        "mask and the model's own segments as palette PNGs, and the area of each class as JSON.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, folders, or - to read paths from stdin"
    )
    parser.add_argument(
        "--classes", required=True, metavar="NAMES", help='separated by commas: "dog, red car"'
    )
    parser.add_argument("--checkpoint", type=Path, default=MINI, help=f"({MINI}: knows drawn things only)")
    parser.add_argument(
        "--background",
        type=float,
        nargs="?",
        const=0.95,
        metavar="THRESHOLD",
        help="label pixels whose best score is below the threshold (0.95) as background",
    )
    parser.add_argument("--out", type=Path, default=Path("segmented"), metavar="FOLDER", help="(segmented)")
    parser.add_argument("--short-side", type=int, metavar="PIXELS", help="(twice the model's image size)")
    parser.add_argument("--window", type=int, metavar="PIXELS", help="(the short side)")
    parser.add_argument("--stride", type=int, metavar="PIXELS", help="(half the window)")
    parser.add_argument("--top-k", type=int, default=5, metavar="K", help="classes a window may contain (5)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from regroup.device import choose_device
    from regroup.model import load_checkpoint
    from regroup.segmentation.protocols import check_names
    from regroup.segmentation.segment import segment_images, unknown_names, write_segmented
    from regroup.segmentation.settings import InferenceParams
    from regroup.settings import parse

    names = check_names(arguments.classes.split(","), "--classes")
    paths = find_images(arguments.images)
    stems = output_stems(paths, arguments.out)
    model = load_checkpoint(arguments.checkpoint).to(choose_device(arguments.device))
    short_side = arguments.short_side or 2 * model.config.image.image_size
    window = arguments.window or short_side
    given = {
        "short_side": short_side,
        "long_side": max(2048, short_side),
        "window": window,
        "stride": arguments.stride or max(1, window // 2),
        "top_k": arguments.top_k,
    }
    params = parse(InferenceParams, given, Path("command line"))
    if unknown := unknown_names(model, names):
        print(
            f"warning: {arguments.checkpoint} has never seen a word of: {', '.join(unknown)}", file=sys.stderr
        )
    settings = {**params.model_dump(), "background": arguments.background}
    for path, result in segment_images(model, paths, names, params, threshold=arguments.background):
        written = write_segmented(result, stems[path], source=path.name, settings=settings)
        total = result.labels.size
        shares = ", ".join(f"{name} {pixels / total:.1%}" for name, pixels in result.areas().items())
        print(f"{path}: {shares} -> {written[0]}", flush=True)


def find_images(given: Sequence[str]) -> list[Path]:
    """The image files that arguments mean: files, the images of folders (sorted), or for `-` a list on stdin.

    Raises:
        RegroupError: a path that does not exist, or no image at all.
    """
    from regroup.errors import RegroupError
    from regroup.segmentation.segment import SUFFIXES

    paths: list[Path] = []
    for text in given:
        if text == "-":
            paths += [Path(line.rstrip("\n")) for line in sys.stdin if line.strip()]
        elif Path(text).is_dir():
            paths += sorted(path for path in Path(text).iterdir() if path.suffix.lower() in SUFFIXES)
        else:
            paths.append(Path(text))
    for path in paths:
        if not path.is_file():
            raise RegroupError(f"{path}: no such image")
    if not paths:
        raise RegroupError(f"{', '.join(given)}: no images ({', '.join(SUFFIXES)})")
    return list(dict.fromkeys(paths))


def output_stems(paths: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Where each image's files go, without suffix.

    Raises:
        RegroupError: two images would overwrite each other's.
    """
    from regroup.errors import RegroupError

    taken: dict[str, Path] = {}
    for path in paths:
        if path.stem in taken:
            raise RegroupError(
                f"{path}: would overwrite the files of {taken[path.stem]}; segment them into two folders"
            )
        taken[path.stem] = path
    return {path: out / stem for stem, path in taken.items()}
