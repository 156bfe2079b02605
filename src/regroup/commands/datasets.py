"""What commands that score a checkpoint have in common: which checkpoint, which datasets, where they lie."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regroup.params import Params
    from regroup.segmentation.settings import DatasetParams


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the checkpoint, the profile and its datasets."""
    parser.add_argument("checkpoint", type=Path, help="a folder of ours or of Hugging Face, or a .pth")
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="the profile (params.yaml)"
    )
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="of the profile's `evaluate` (all)")
    parser.add_argument(
        "--root",
        action="append",
        default=[],
        metavar="SOURCE=FOLDER",
        help="where a source's data lies (the profile's raw data)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images of a dataset")
    parser.add_argument("--batch", type=int, metavar="N", help="windows in a pass of the model")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"))


def choose_data(
    arguments: argparse.Namespace, params: Params
) -> tuple[dict[str, DatasetParams], dict[str, Path]]:
    """The datasets asked for, by name, and the root of each source they need.

    Raises:
        RegroupError: no such dataset, or its raw data is not there.
    """
    from regroup.sources.manifest import raw_root

    names = arguments.datasets or list(params.evaluate.datasets)
    datasets = params.evaluate.chosen(names, f"{arguments.params}: --datasets")
    if arguments.limit is not None:
        datasets = {name: one.model_copy(update={"limit": arguments.limit}) for name, one in datasets.items()}
    roots = {source: Path(folder) for source, _, folder in (entry.partition("=") for entry in arguments.root)}
    for dataset in datasets.values():
        if dataset.source not in roots:
            roots[dataset.source] = raw_root(params.layout.raw(dataset.source))
    return datasets, roots
