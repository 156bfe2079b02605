"""Segmentation's full set on the drawn world: datasets of the same images encoded once, beside each alone.

    python benchmarks/shared_encoding.py [--raw data/mini/raw] [--limit N]

Needs the data of the profile `mini` (`make repro`). Eight protocols on four image sets, settings of that
profile. CPU seconds of one thread, reading included; the two ways run in turns, medians. The counts of both
are compared, and have to be the same.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import Result, record

from regroup.backbones import load_checkpoint
from regroup.segmentation.evaluation import evaluate_all
from regroup.segmentation.scores import Scores
from regroup.segmentation.settings import DatasetParams, EvaluateParams

DATASETS = {
    "coco_maps": ("coco", "coco_object_stuffthingmaps"),
    "coco_instances": ("coco", "coco_object_instances"),
    "coco_stuff": ("coco", "coco_stuff171"),
    "voc21": ("voc12", "voc"),
    "voc20": ("voc12", "voc20"),
    "context60": ("context", "context60"),
    "context59": ("context", "context59"),
    "ade150": ("ade", "ade150"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--raw", type=Path, default=Path("data/mini/raw"))
    parser.add_argument("--checkpoint", type=Path, default=Path("pretrain/groupvit-mini"))
    parser.add_argument("--limit", type=int, help="images a dataset (all)")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    roots = {source: arguments.raw / source for source, _ in DATASETS.values()}
    if missing := [str(root) for root in dict.fromkeys(roots.values()) if not root.is_dir()]:
        parser.error(f"--raw: there is no {', '.join(missing)}; `make repro` draws them")
    torch.set_num_threads(1)
    model = load_checkpoint(arguments.checkpoint)
    params = EvaluateParams(
        short_side=128,
        long_side=585,
        window=128,
        stride=64,
        batch=32,
        device="cpu",
        datasets={
            name: DatasetParams(
                source=source, protocol=protocol, threshold=0.2, names="drawn", limit=arguments.limit
            )
            for name, (source, protocol) in DATASETS.items()
        },
    )

    def together() -> Scores:
        return evaluate_all(model, params, roots)

    def alone() -> Scores:
        found = {}
        for name, one in params.datasets.items():
            found.update(
                evaluate_all(model, params.model_copy(update={"datasets": {name: one}}), roots).datasets
            )
        return Scores(found)

    times: dict[Callable[[], Scores], list[float]] = {together: [], alone: []}
    for _ in range(arguments.repeats):
        scores = {}
        for way, taken in times.items():
            started = time.process_time()
            scores[way] = way()
            taken.append(time.process_time() - started)
        for name in DATASETS:
            one, other = (scores[way].datasets[name].confusion for way in (together, alone))
            assert np.array_equal(one, other), name
    for name, one in scores[together].datasets.items():
        print(f"{name}: {one.protocol['name']}, mIoU {one.miou:.2f} on {one.images} drawn images")
    ours, other = (statistics.median(taken) for taken in times.values())
    record(
        [Result("segmentation's full set, drawn, images encoded once", "CPU s", ours, other, other / ours)]
    )


if __name__ == "__main__":
    main()
