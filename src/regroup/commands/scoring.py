"""What commands that score a checkpoint have in common: which checkpoint, which datasets, where they lie."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from regroup.commands.arguments import (
    MOST_IMAGES,
    MOST_PIXELS,
    add_device,
    add_params,
    check_known,
    path,
    shown,
    text,
    whole,
)
from regroup.errors import RegroupError

if TYPE_CHECKING:
    from regroup.model.interface import Backbone
    from regroup.params import Params
    from regroup.segmentation.settings import DatasetParams, InferenceParams

MOST_WINDOWS = 10_000
"""Windows of one square image."""


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint, the profile and its datasets."""
    parser.add_argument("checkpoint", type=path, help="a folder of ours or of Hugging Face, or a .pth")
    add_params(parser)
    parser.add_argument(
        "--datasets",
        nargs="+",
        type=text,
        metavar="NAME",
        help="of the profile's `evaluate.segmentation` (all)",
    )
    add_root(parser)
    parser.add_argument(
        "--limit", type=whole(1, MOST_IMAGES), metavar="N", help="only the first N images of a dataset"
    )
    parser.add_argument("--batch", type=whole(1, 65_536), metavar="N", help="windows in a pass of the model")
    add_device(parser, None)


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add `--root`, where the data of sources lies."""
    parser.add_argument(
        "--root",
        action="append",
        default=[],
        type=source_folder,
        metavar="SOURCE=FOLDER",
        help="where a source's data lies, in place of the profile's raw data; may be given again",
    )


def source_folder(given: str) -> tuple[str, Path]:
    """`SOURCE=FOLDER` as its two parts."""
    source, equals, folder = given.partition("=")
    if not (source and equals and folder):
        raise argparse.ArgumentTypeError(f"{shown(given)} is not SOURCE=FOLDER")
    return source, path(folder)


def choose_data(
    arguments: argparse.Namespace, params: Params
) -> tuple[dict[str, DatasetParams], dict[str, Path]]:
    """The datasets asked for, by name, and the root of each source they need.

    Raises:
        RegroupError: no such dataset, a root for a source that none of them has, or raw data that is not
            there.
    """
    from regroup.sources.manifest import raw_root

    names = arguments.datasets or list(params.segmentation.datasets)
    check_known(names, list(params.segmentation.datasets), f"{arguments.params}: --datasets")
    datasets = params.segmentation.chosen(names, f"{arguments.params}: --datasets")
    if arguments.limit is not None:
        datasets = {name: one.model_copy(update={"limit": arguments.limit}) for name, one in datasets.items()}
    roots = _given_roots(arguments.root, datasets)
    for dataset in datasets.values():
        if dataset.source not in roots:
            roots[dataset.source] = raw_root(params.layout.raw(dataset.source))
    return datasets, roots


def _given_roots(given: Iterable[tuple[str, Path]], datasets: Mapping[str, DatasetParams]) -> dict[str, Path]:
    given = list(given)
    sources = list(dict.fromkeys(dataset.source for dataset in datasets.values()))
    read = ", ".join(f"{name} from {dataset.source}" for name, dataset in datasets.items())
    for source, _ in given:
        if source not in sources:
            raise RegroupError(f"--root {shown(source)}: no source that is read here; what is: {read}")
    check_known([source for source, _ in given], sources, "--root")
    for source, folder in given:
        if not folder.is_dir():
            raise RegroupError(f"--root {source}: no such folder {folder}")
    return dict(given)


def any_drawn(params: Params, sources: Iterable[str], given: Collection[str]) -> bool:
    """Whether any of the data that was read is drawn by this project.

    Args:
        params: of the profile.
        sources: that were read.
        given: those whose folders the user named, which hold whatever they do.
    """
    known = params.sources
    return any(name not in known or known[name].kind == "mini" for name in set(sources) - set(given))


def drawn_data(arguments: argparse.Namespace, params: Params, datasets: Mapping[str, DatasetParams]) -> bool:
    """The same of the datasets that `choose_data` chose."""
    return any_drawn(params, (one.source for one in datasets.values()), dict(arguments.root))


def say_limit(limit: int | None, images: Mapping[str, int]) -> None:
    """Say where a dataset has fewer images than were asked for."""
    for name, count in images.items():
        if limit is not None and count < limit:
            print(f"{name}: has {count} images, fewer than --limit {limit}; all were scored")


def add_window_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how images are scaled and cut into windows, with defaults that follow from the model."""
    pixels = whole(1, MOST_PIXELS)
    parser.add_argument("--short-side", type=pixels, metavar="PIXELS", help="(twice the model's image size)")
    parser.add_argument("--window", type=pixels, metavar="PIXELS", help="(the short side)")
    parser.add_argument("--stride", type=pixels, metavar="PIXELS", help="(half the window)")
    parser.add_argument(
        "--top-k", type=whole(1, 1000), default=5, metavar="K", help="classes a window may contain (5)"
    )


def window_params(arguments: argparse.Namespace, model: Backbone) -> InferenceParams:
    """The settings of `add_window_arguments` for a model.

    Raises:
        RegroupError: as `check_windows`, or a stride larger than the window.
    """
    from regroup.segmentation.settings import InferenceParams
    from regroup.settings import parse

    short_side = arguments.short_side or 2 * model.image_size
    window = arguments.window or short_side
    given = {
        "short_side": short_side,
        "long_side": max(2048, short_side),
        "window": window,
        "stride": arguments.stride or max(1, window // 2),
        "top_k": arguments.top_k,
    }
    params = parse(InferenceParams, given, Path("command line"))
    check_windows(params, model.patch_size)
    return params


def check_windows(params: InferenceParams, patch: int) -> None:
    """Refuse windows smaller than a patch of the model, and more of them than anyone can wait for.

    Raises:
        RegroupError: says what would be possible.
    """
    short_side, window, stride = params.short_side, params.window, params.stride
    if min(short_side, window) < patch:
        raise RegroupError(
            f"--short-side {short_side}, --window {window}: a patch of the model, {patch} pixels, must fit in"
        )
    along = max(0, short_side - window) // stride + 1
    if along**2 > MOST_WINDOWS:
        raise RegroupError(
            f"--stride {stride}: {along**2:,} windows in a square image, more than the {MOST_WINDOWS:,} that "
            "are possible; give a larger stride or window"
        )
