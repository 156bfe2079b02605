"""`regroup shards`: verify shards, or build them one a job."""

from __future__ import annotations

import argparse
from typing import Any

from regroup.captions.index import INDEX
from regroup.captions.settings import ShardsParams
from regroup.commands.arguments import MOST_IMAGES, MOST_PIXELS, add_actions, path, whole
from regroup.commands.outputs import check_output
from regroup.errors import RegroupError

EXAMPLES = """examples:
  regroup shards verify data/mini/shards
  regroup shards build COCO OUT --images-per-shard 1000 --shard 7      one job of an array
  regroup shards merge OUT                                             after the last of them"""


def add_parser(commands: Any) -> None:
    """Add the command `shards` to the parser of `regroup`."""
    about = "verify caption shards"
    actions = add_actions(commands, "shards", about=about, description=__doc__, examples=EXAMPLES)

    verify = actions.add_parser("verify", help="check shards against their index")
    verify.add_argument("folder", type=path, help=f"folder with the tars and {INDEX}")
    verify.add_argument("--decode", action="store_true", help="also decode every image (slow)")
    verify.add_argument("--processes", type=whole(1, 1024), default=1, metavar="N", help="(1)")
    verify.set_defaults(run=_verify)

    build = actions.add_parser("build", help="build one shard, for clusters")
    build.add_argument("root", type=path, help="folder in COCO's layout")
    build.add_argument("out", type=path, help="folder for the shards")
    build.add_argument("--shard", type=whole(0, 99_999), required=True, metavar="N", help="which one, from 0")
    build.add_argument(
        "--images-per-shard",
        type=whole(1, MOST_IMAGES),
        default=ShardsParams().images_per_shard,
        metavar="N",
        help="(%(default)s)",
    )
    build.add_argument(
        "--short-side",
        type=whole(1, MOST_PIXELS),
        metavar="PIXELS",
        help="resize larger images to this short side",
    )
    build.set_defaults(run=_build)

    merge = actions.add_parser("merge", help=f"make {INDEX} when every shard is built")
    merge.add_argument("out", type=path, help="folder of the shards")
    merge.set_defaults(run=_merge)


def _verify(arguments: argparse.Namespace) -> int:
    from regroup.captions.verify import verify_shards

    report = verify_shards(
        arguments.folder, decode=arguments.decode, processes=arguments.processes, progress=True
    )
    for problem in report.problems:
        print(problem)
    state = "all as the index says" if not report.problems else f"{len(report.problems)} faults"
    print(f"{report.shards} shards, {report.samples} samples: {state}")
    return 1 if report.problems else 0


def _build(arguments: argparse.Namespace) -> int:
    from regroup.captions.shards import build_shard, open_corpus, part_path, plan_shards, shard_name

    check_output(arguments.out, "OUT")
    params = ShardsParams(images_per_shard=arguments.images_per_shard, short_side=arguments.short_side)
    corpus, images = open_corpus(arguments.root)
    plans = plan_shards(corpus, params)
    if not 0 <= arguments.shard < len(plans):
        raise RegroupError(f"--shard {arguments.shard}: there are {len(plans)} shards, 0 to {len(plans) - 1}")
    tar = arguments.out / shard_name(arguments.shard)
    if tar.exists() and not (part_path(tar).exists() or (arguments.out / INDEX).exists()):
        raise RegroupError(f"{tar}: is there already, and no shard of ours; build into an empty folder")
    unreadable = build_shard(plans[arguments.shard], images=images, out=arguments.out, params=params)
    for name in unreadable:
        print(f"{name}: not readable as an image, packed as it is")
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from regroup.captions.shards import merge_index

    print(f"{arguments.out / INDEX}: {len(merge_index(arguments.out))} samples")
    return 0
