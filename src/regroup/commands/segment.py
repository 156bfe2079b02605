"""`regroup segment`: segment images into classes of your own."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regroup.commands.arguments import add_device, number, path, text
from regroup.commands.outputs import Made, check_output
from regroup.commands.scoring import add_window_arguments, window_params
from regroup.errors import RegroupError

EXAMPLES = """examples:
  regroup segment dog.jpg --classes "dog, grass, sky"
  regroup segment photos/ --classes "cat, sofa" --background 0.9 --out cats
  find . -name '*.jpg' | regroup segment - --classes "boat, water" --checkpoint runs/mini/refined-384

exit status: 0 every image was segmented, 1 some were and the others are named, 2 none was"""

MOST_STEM = 240
"""Bytes that file systems allow in a name, less those of `-segments.png`."""

MINI = Path("pretrain/groupvit-mini")


def add_parser(commands: Any) -> None:
    """Add the command `segment` to the parser of `regroup`."""
    parser = commands.add_parser(
        "segment",
        help="segment images with class names of your own",
        description="Segment images into the classes you name. For each image: an overlay with a legend, the "
        "mask and the model's own segments as palette PNGs, and the area of each class as JSON. An image "
        "that cannot be read is named and left out. Nothing is overwritten but what this command made.",
        epilog=EXAMPLES,
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=path,
        metavar="IMAGE",
        help="files, folders (without their subfolders), or - to read paths from standard input, one a line "
        "or as `find -print0` writes them",
    )
    parser.add_argument(
        "--classes", required=True, type=text, metavar="NAMES", help='separated by commas: "dog, red car"'
    )
    parser.add_argument("--checkpoint", type=path, default=MINI, help=f"({MINI}: knows drawn things only)")
    parser.add_argument(
        "--background",
        type=number(0, 1),
        nargs="?",
        const=0.95,
        metavar="THRESHOLD",
        help="label pixels whose best score is below the threshold (0.95) as background",
    )
    parser.add_argument("--out", type=path, default=Path("segmented"), metavar="FOLDER", help="(segmented)")
    add_window_arguments(parser)
    add_device(parser, "auto")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from regroup.backbones import load_checkpoint
    from regroup.device import choose_device
    from regroup.segmentation.segment import output_names, segment_images, segmented_files, unknown_names

    names = class_names(arguments.classes, background=arguments.background is not None)
    check_output(arguments.out)
    made = Made(arguments.out, "segment")
    images = find_images(arguments.images)
    stems = output_stems(images)
    check_targets(made, images, [name for stem in stems.values() for name in output_names(stem)])
    model = load_checkpoint(arguments.checkpoint).to(choose_device(arguments.device))
    params = window_params(arguments, model)
    if unknown := unknown_names(model, names):
        print(
            f"warning: {arguments.checkpoint} has never seen a word of: {', '.join(unknown)}", file=sys.stderr
        )
    settings = {**params.model_dump(), "background": arguments.background}
    failed: list[Path] = []

    def unreadable(image: Path, error: RegroupError) -> None:
        failed.append(image)
        print(f"regroup segment: error: {error}", file=sys.stderr)

    results = segment_images(
        model, images, names, params, threshold=arguments.background, unreadable=unreadable
    )
    for image, result in results:
        files = segmented_files(result, stems[image], source=image.name, settings=settings)
        written = made.write(files)
        total = result.labels.size
        shares = ", ".join(f"{name} {pixels / total:.1%}" for name, pixels in result.areas().items())
        print(f"{image}: {shares} -> {written[0]}", flush=True)
    return _sum_up(len(images), failed, arguments.out)


def _sum_up(count: int, failed: Sequence[Path], out: Path) -> int:
    """Say how many images were segmented and which were not; the exit status."""
    if not failed:
        print(f"{count} segmented, in {out}")
        return 0
    if len(failed) == count:
        if count > 1:
            print(f"regroup segment: error: none of {count} images could be read", file=sys.stderr)
        return 2
    names = ", ".join(map(str, failed))
    print(f"{count - len(failed)} segmented, in {out}; {len(failed)} could not be read: {names}")
    return 1


def class_names(given: str, *, background: bool) -> tuple[str, ...]:
    """The class names in a list separated by commas.

    Raises:
        RegroupError: none, an empty one, too many, or one twice, be it in another spelling: the model reads
            lower case.
    """
    from regroup.segmentation.protocols import check_names
    from regroup.segmentation.segment import BACKGROUND, MOST_CLASSES

    names = check_names(given.split(","), "--classes")
    if len(names) > MOST_CLASSES:
        raise RegroupError(f"--classes: {len(names)} names, but a mask holds no more than {MOST_CLASSES}")
    in_lower_case: dict[str, str] = {}
    for name in names:
        if (first := in_lower_case.setdefault(" ".join(name.lower().split()), name)) != name:
            raise RegroupError(f"--classes: {first!r} and {name!r} are one to the model; keep one of them")
    if background and BACKGROUND in in_lower_case:
        raise RegroupError(f"--classes: `{BACKGROUND}` is what --background names; leave out one of the two")
    return names


def find_images(given: Sequence[Path]) -> list[Path]:
    """The image files that arguments mean: files, the images of folders (sorted), or for `-` a list on stdin.

    What `regroup segment` made itself in such a folder is no image of it. Whether a named file can be read is
    found out when it is its turn.

    Raises:
        RegroupError: no image at all.
    """
    from regroup.pictures import PICTURE_SUFFIXES

    paths: list[Path] = []
    for one in given:
        if str(one) == "-":
            paths += _listed()
        elif os.path.isdir(one):  # noqa: PTH112 (Path's raises where a name is too long)
            made = Made(one, "segment")
            found = (
                image
                for image in one.iterdir()
                if image.suffix.lower() in PICTURE_SUFFIXES and image.is_file()
            )
            paths += sorted(image for image in found if not made.knows(image.name))
        else:
            paths.append(one)
    if not paths:
        shown = ", ".join(map(str, given))
        raise RegroupError(f"{shown}: no images ({', '.join(PICTURE_SUFFIXES)}; subfolders are not searched)")
    # one image by two ways is one image
    return list({os.path.realpath(image): image for image in reversed(paths)}.values())[::-1]


def _listed() -> list[Path]:
    """Paths on standard input, of any bytes: one a line, or ended by NUL."""
    stream = getattr(sys.stdin, "buffer", None)
    content = sys.stdin.read().encode() if stream is None else stream.read()
    names = content.split(b"\0") if b"\0" in content else content.splitlines()
    return [Path(os.fsdecode(name)) for name in names if name.strip()]


def output_stems(images: Sequence[Path]) -> dict[Path, str]:
    """What each image's files are called, without suffix: its stem, or where that is shared its whole name.

    Raises:
        RegroupError: two images of the same name, whose files would overwrite each other.
    """
    count = Counter(image.stem.casefold() for image in images)
    stems = {
        image: _short(image.name if count[image.stem.casefold()] > 1 else image.stem) for image in images
    }
    taken: dict[str, Path] = {}
    for image, stem in stems.items():
        # some file systems take A and a for one
        first = taken.setdefault(stem.casefold(), image)
        if first != image:
            raise RegroupError(
                f"{image}: would overwrite the files of {first}; segment them into two folders"
            )
    return stems


def _short(stem: str) -> str:
    """The stem, or where the files' names would be longer than file systems take, its start and a digest."""
    whole = os.fsencode(stem)
    if len(whole) <= MOST_STEM:
        return stem
    return os.fsdecode(whole[: MOST_STEM - 9]) + "-" + hashlib.sha256(whole).hexdigest()[:8]


def check_targets(made: Made, images: Sequence[Path], names: Sequence[str]) -> None:
    """Refuse, before any work, to overwrite a file of somebody else's or one of the images.

    Raises:
        RegroupError: names some of them.
    """
    sources = {os.path.realpath(image) for image in images}
    for name in names:
        if os.path.realpath(made.folder / name) in sources:
            raise RegroupError(f"--out: {made.folder / name} is one of the images; name another folder")
    made.check(names)
