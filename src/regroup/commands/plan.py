"""`regroup plan`: how long a study will take on this machine, before it is started."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

from regroup.commands.arguments import MOST_IMAGES, add_params, whole
from regroup.errors import RegroupError

if TYPE_CHECKING:
    from regroup.model.dino import DinoKeys
    from regroup.params import Params
    from regroup.training.measure import Measurement
    from regroup.training.plan import Plan
    from regroup.training.settings import CheckpointParams
    from regroup.variants import Variant

EXAMPLES = """examples:
  regroup plan
  regroup plan --params full/params.yaml                    the whole study, measured on this machine's device
  regroup plan --params full/params.yaml --gpus 8           spread over eight such GPUs
  regroup plan --params full/params.yaml --no-measure       runs and steps alone, at once"""

GIB = 2**30


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plan",
        help="runs, steps, memory and hours of a study, from a short measurement",
        description="Print every run of a profile with its steps, and, from a few training steps on made-up "
        "images on this machine, the memory it needs and the hours it takes. Runs that compute alike are "
        "measured once; steps and hours are of all seeds of a variant. Reading and augmenting images is not "
        "in it: `benchmarks/training.py` tells how far that is hidden.",
        epilog=EXAMPLES,
    )
    add_params(parser)
    parser.add_argument(
        "--captions",
        type=whole(1, MOST_IMAGES),
        metavar="N",
        help="of the training split (those there are; where `nouns` has not run, COCO's 591753)",
    )
    parser.add_argument(
        "--images", type=whole(1, 65_536), metavar="N", help="images a measured step (a GPU 64, a CPU 8)"
    )
    parser.add_argument(
        "--gpus", type=whole(1, 100_000), default=1, metavar="N", help="GPUs that the runs are spread over"
    )
    parser.add_argument("--no-measure", action="store_true", help="do not run any steps")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from regroup.params import load_params
    from regroup.seeds import all_seeds
    from regroup.training.plan import Plan
    from regroup.variants_file import load_variants

    if arguments.no_measure and (arguments.images is not None or arguments.gpus > 1):
        raise RegroupError(
            "--no-measure: there are no hours then for --images or --gpus to change; drop them"
        )
    params = load_params(arguments.params)
    captions, images = _corpus(params)
    if arguments.captions is not None:
        captions, images = arguments.captions, arguments.captions * images / captions
    runs = {
        name: (variant, Plan.of(variant, params.finetune, captions))
        for name, variant in load_variants(params.variants_file).items()
        if variant.trained
    }
    if not runs:
        raise RegroupError(f"{params.variants_file}: no variant is trained, so there is nothing to plan")
    seeds = {name: len(all_seeds(one.seeds, params.finetune.seeds)) for name, (one, _) in runs.items()}
    measured = {} if arguments.no_measure else _measure(params, runs, arguments.images)
    width = max(map(len, runs))
    variants = f"{len(runs)} variants, " if sum(seeds.values()) > len(runs) else ""
    print(
        f"{params.name}: {variants}{sum(seeds.values())} runs to train, {captions:,} captions of "
        f"{images:,.0f} images"
    )
    print(
        f"{'variant':<{width}}  {'seeds':>5}  {'steps':>9}  {'batch':>5}  {'px':>4}  {'views':>6}"
        f"  {'s/step':>8}  {'hours':>8}  {'GiB':>6}"
    )
    hours = 0.0
    for name, (_, plan) in runs.items():
        steps = seeds[name] * plan.steps
        line = f"{name:<{width}}  {seeds[name]:>5}  {steps:>9,}  {plan.batch:>5}  {plan.image_size:>4}"
        line += f"  {plan.views(images, params.finetune):>6.1f}"
        if name in measured:
            one = measured[name]
            own = steps * one.seconds / 3600
            hours += own
            line += f"  {one.seconds:>8.3f}  {own:>8.2f}  {one.memory / GIB:>6.1f}"
        print(line)
    total = sum(seeds[name] * plan.steps for name, (_, plan) in runs.items())
    print(
        f"{'total':<{width}}  {sum(seeds.values()):>5}  {total:>9,}"
        + (f"  {hours:>39,.1f}" if measured else "")
    )
    for sentence in _by_resolution(runs, measured):
        print(sentence)
    if measured and arguments.gpus > 1:
        print(f"over {arguments.gpus} GPUs: {hours / arguments.gpus:,.1f} hours")
    print("views: different augmentations of an image that a run sees, on average")


def _by_resolution(runs: dict[str, tuple[Variant, Plan]], measured: dict[str, Measurement]) -> Iterator[str]:
    """What an epoch costs at a higher resolution: means over runs that differ in nothing else."""
    alike: dict[str, dict[int, float]] = {}
    for name, (variant, plan) in runs.items():
        if name in measured:
            rest = variant.model_dump_json(exclude={"title", "rows", "resolution", "seed", "seeds"})
            minutes = plan.epoch_steps * measured[name].seconds / 60
            alike.setdefault(rest, {}).setdefault(variant.resolution, minutes)
    pairs: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for found in alike.values():
        for low, high in pairwise(sorted(found)):
            pairs.setdefault((low, high), []).append((found[low], found[high]))
    for (low, high), some in pairs.items():
        before, after = (fmean(minutes) for minutes in zip(*some, strict=True))
        pairs_of_runs = f"{len(some)} pair{'s' if len(some) > 1 else ''} of runs"
        yield (
            f"an epoch at {high} takes {after / before:.1f} times one at {low}: "
            f"{after - before:+.2f} minutes, the mean of {pairs_of_runs}"
        )


def _corpus(params: Params) -> tuple[int, float]:
    """Captions and images of the training split; where `nouns` has not run, what they will be, or COCO's."""
    import numpy as np

    from regroup.captions.table import LABELS, LabelTable
    from regroup.sources.mini.drawn.coco import CAPTIONS_PER_IMAGE

    path = params.layout.captions / LABELS
    if not path.is_file():
        drawn = params.world.coco_train if params.sources["coco"].kind == "mini" else None
        return (591_753, 118_287) if drawn is None else (drawn * CAPTIONS_PER_IMAGE, drawn)
    table = LabelTable.open(path)
    return len(table), len(np.unique(table.image_ids))


def _measure(
    params: Params, runs: dict[str, tuple[Variant, Plan]], images: int | None
) -> dict[str, Measurement]:
    from tqdm import tqdm

    from regroup.device import choose_device
    from regroup.resolved import checkpoint_of
    from regroup.training.checkpoint import start_model
    from regroup.training.measure import measure

    settings = params.finetune
    device = choose_device(settings.device)
    known: dict[str, Measurement] = {}
    result = {}
    for name, (variant, plan) in tqdm(runs.items(), "measuring", unit="run", leave=False):
        scale = (plan.batch, plan.image_size, variant.labels.count)
        blocks = (variant.adapt, variant.heads, variant.grouping_blocks, variant.last_group_tokens)
        alike = repr((scale, blocks, variant.objectives, variant.dino_input, variant.checkpoint))
        if alike not in known:
            checkpoint = _there(checkpoint_of(variant, params, where=f"{params.variants_file}: {name}"))
            dino = _made_up_features(params).to(device) if variant.reads_dino else None
            model = start_model(checkpoint, variant=variant, image_size=plan.image_size, dino=dino)
            count = images or (64 if device.type == "cuda" else 8)
            known[alike] = measure(model, variant, settings, plan, device=device, images=count, dino=dino)
        result[name] = known[alike]
    return result


def _there(checkpoint: CheckpointParams) -> CheckpointParams:
    """A checkpoint, or random weights for GroupViT's that was not downloaded yet: a step takes as long."""
    from regroup.model import GroupViTConfig

    if checkpoint.kind == "random" or checkpoint.path.exists() or checkpoint.backbone != "groupvit":
        return checkpoint
    return checkpoint.model_copy(update={"kind": "random", "model": GroupViTConfig()})


def _made_up_features(params: Params) -> DinoKeys:
    """The network of self-supervised features, with weights that are numbers, and no more than that."""
    import torch

    from regroup.model.dino import DinoKeys

    features = DinoKeys(params.dino.network)
    generator = torch.Generator().manual_seed(0)
    for weights in features.parameters():
        weights.data.normal_(std=0.02, generator=generator)
    return features
