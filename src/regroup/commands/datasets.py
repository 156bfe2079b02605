"""`regroup datasets`: those that are known, and any folder of images and masks that a YAML file describes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regroup.commands.arguments import MOST_IMAGES, add_actions, add_device, number, path, text, whole
from regroup.commands.scoring import add_window_arguments, window_params

if TYPE_CHECKING:
    from regroup.segmentation.checking import DatasetReport

EXAMPLES = """examples:
  regroup datasets list
  regroup datasets check mine.yaml --root /data/mine
  regroup datasets score mine.yaml --root /data/mine --checkpoint runs/mini/original

docs/datasets.md says what such a file may hold; exit status of `check`: 0 all is well, 1 some files are not,
2 there is nothing to look at"""

FAULTS = 8
"""That are shown."""


def add_parser(commands: Any) -> None:
    """Add the command `datasets` to the parser of `regroup`."""
    about = "list datasets; check or score any folder of images and masks"
    actions = add_actions(commands, "datasets", about=about, description=__doc__, examples=EXAMPLES)
    listed = actions.add_parser("list", help="protocols and sources by name")
    listed.set_defaults(run=_list)
    check = actions.add_parser("check", help="look at every image and mask")
    _add_dataset(check)
    check.set_defaults(run=_check)
    score = actions.add_parser("score", help="mIoU of a checkpoint")
    _add_dataset(score)
    score.add_argument("--checkpoint", type=path, required=True, help="a folder, or a .pth")
    score.add_argument(
        "--threshold", type=number(0, 1), help="of background, where it has one (the protocol's)"
    )
    score.add_argument(
        "--batch", type=whole(1, 65_536), default=8, metavar="N", help="windows in a pass of the model (8)"
    )
    add_window_arguments(score)
    add_device(score, "auto")
    score.set_defaults(run=_score)


def _add_dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("protocol", type=text, help="a protocol's name, or a YAML file of your own")
    parser.add_argument("--root", type=path, required=True, metavar="FOLDER", help="what its paths start at")
    parser.add_argument("--split", choices=("train", "val"), default="val", help="(val)")
    parser.add_argument("--limit", type=whole(1, MOST_IMAGES), metavar="N", help="only the first N images")


def _list(arguments: argparse.Namespace) -> None:
    from regroup.segmentation.protocols import load_protocol
    from regroup.segmentation.settings import PROTOCOLS
    from regroup.sources.settings import SOURCES

    width = max(map(len, PROTOCOLS.names))
    print("protocols:")
    for name in PROTOCOLS.names:
        protocol = load_protocol(name)
        print(f"  {name:{width}}  {len(protocol.classes):3} classes  {protocol.title}")
    print(f"sources: {', '.join(name for name in SOURCES.names if not SOURCES.load(name).pretraining)}")


def _check(arguments: argparse.Namespace) -> int:
    from regroup.segmentation.checking import check_dataset
    from regroup.segmentation.protocols import load_protocol

    protocol = load_protocol(arguments.protocol)
    report = check_dataset(protocol, _root(arguments), arguments.split, arguments.limit)
    _print_classes(report)
    from regroup.errors import shortlist

    if unseen := report.unseen:
        print(f"never seen: {shortlist(list(unseen))}")
    for fault in report.faults[:FAULTS]:
        print(f"fault: {fault}")
    if (more := len(report.faults) - FAULTS) > 0:
        print(f"and {more} faults more")
    print(
        f"{protocol.name}: {report.images:,} images of split {arguments.split}, {len(report.faults)} faults"
    )
    return 1 if report.faults else 0


def _print_classes(report: DatasetReport) -> None:
    total = max(1, int(report.pixels.sum()) + report.unscored)
    width = max(map(len, report.classes))
    print(f"{'id':>4}  {'class':{width}}  {'images':>7}  {'pixels':>7}")
    for number_, (name, pixels, shown) in enumerate(
        zip(report.classes, report.pixels.tolist(), report.shown.tolist(), strict=True)
    ):
        if pixels:
            print(f"{number_:4}  {name:{width}}  {shown:7,}  {pixels / total:7.2%}")
    print(f"{'':4}  {'(not scored)':{width}}  {'':7}  {report.unscored / total:7.2%}")


def _score(arguments: argparse.Namespace) -> None:
    from regroup.backbones import load_checkpoint
    from regroup.device import choose_device
    from regroup.segmentation.evaluation import evaluate
    from regroup.segmentation.protocols import load_protocol
    from regroup.segmentation.resolved import ResolvedDataset

    protocol, root = load_protocol(arguments.protocol), _root(arguments)
    threshold = protocol.threshold if arguments.threshold is None else arguments.threshold
    dataset = ResolvedDataset(
        name=protocol.name,
        protocol=protocol,
        prompts=protocol.class_prompts(),
        threshold=threshold or 0.0,
        root=root,
        split=arguments.split,
        limit=arguments.limit,
    )
    assert dataset.samples  # a missing file is found before the model is loaded
    model = load_checkpoint(arguments.checkpoint).to(choose_device(arguments.device))
    params = window_params(arguments, model)
    scores = evaluate(model, dataset, params, batch=arguments.batch, progress=True)
    width = max(map(len, scores.classes))
    for name, iou, accuracy in zip(scores.classes, scores.iou, scores.accuracy, strict=True):
        if iou == iou:  # a class that is neither there nor predicted has none
            print(f"{name:{width}}  IoU {iou:6.2f}  accuracy {accuracy:6.2f}")
    print(
        f"{protocol.name}: mIoU {scores.miou:.2f}, mean accuracy {scores.macc:.2f}, pixel accuracy "
        f"{scores.aacc:.2f} on {scores.images:,} images"
    )


def _root(arguments: argparse.Namespace) -> Path:
    from regroup.errors import RegroupError

    root: Path = arguments.root
    if not root.is_dir():
        raise RegroupError(
            f"--root: no such folder {root}; give the folder that the protocol's paths start at"
        )
    return root
