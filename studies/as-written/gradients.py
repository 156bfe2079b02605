"""How strongly each term of the loss pulls on the grouping blocks, in both of its forms.

Each term alone, at weight 1, from the pretrained checkpoint, on the first batches of the training split; the
norm of its gradient on both grouping blocks. From these numbers the weights of this study's `*-weighted` runs
were chosen. Run it once the stages `shards`, `nouns` and `dino` are done:

    python studies/as-written/gradients.py
    python studies/as-written/gradients.py --resolution 384 --batches 16
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import torch

from regroup.adaptation import adapt
from regroup.commands.arguments import path, whole
from regroup.errors import readable_errors
from regroup.model.dino import load_features
from regroup.params import Params, ProfilePaths, load_params
from regroup.training.checkpoint import start_model
from regroup.training.data import CaptionData
from regroup.training.step import TrainingStep
from regroup.variants import Variant
from regroup.variants_file import load_variants

PUBLISHED = {"form": "published"}
TERMS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "contrastive and multi-label": ([{"name": "contrastive"}, {"name": "multi_label"}], "null"),
    "contrastive and noise-free": ([{"name": "contrastive"}, {"name": "noise_free"}], "denominator"),
    "GE as written": ([{"name": "group_entropy"}], "null"),
    "GE as coded": ([{"name": "group_entropy", "options": PUBLISHED}], "null"),
    "LE as written": ([{"name": "label_entropy"}], "null"),
    "LE as coded": ([{"name": "label_entropy", "options": PUBLISHED}], "null"),
    "SE as written": ([{"name": "segment_entropy"}], "null"),
    "SE as coded": ([{"name": "segment_entropy", "options": PUBLISHED}], "null"),
    "DINO as written": ([{"name": "dino_distillation"}], "null"),
    "DINO as written, mean of rows": ([{"name": "dino_distillation", "options": {"rows": "mean"}}], "null"),
    "DINO as coded": ([{"name": "dino_distillation", "options": PUBLISHED}], "null"),
}
"""The terms, and what stands in empty label places beside them."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=path, default=Path("params.yaml"))
    parser.add_argument("--resolution", type=int, choices=(224, 384), default=224)
    parser.add_argument("--batches", type=whole(1, 1000), default=8)
    arguments = parser.parse_args()
    params = load_params(arguments.params)
    torch.set_num_threads(1)
    base = load_variants(params.variants_file)["refined"].model_dump(mode="json")
    print(f"{'term':<30}  {'loss':>9}  {'gradient':>9}  {'least':>9}  {'most':>9}")
    for name, (objectives, padding) in TERMS.items():
        variant = Variant.model_validate(
            base
            | {"objectives": objectives, "resolution": arguments.resolution}
            | {"labels": base["labels"] | {"padding": padding}}
        )
        losses, norms = zip(*measured(params, variant, arguments.batches), strict=True)
        print(
            f"{name:<30}  {statistics.mean(losses):>9.4f}  {statistics.mean(norms):>9.2e}"
            f"  {min(norms):>9.2e}  {max(norms):>9.2e}",
            flush=True,
        )


def measured(params: Params, variant: Variant, batches: int) -> list[tuple[float, float]]:
    """Loss and gradient norm of each of a run's first batches, none of which changes a weight."""
    layout = ProfilePaths(params.name, params.data)
    data, plan = CaptionData.open(layout.captions, layout.shards, variant, params.finetune)
    dino = load_features(layout.dino) if variant.reads_dino else None
    model = start_model(params.checkpoint, variant=variant, image_size=plan.image_size, dino=dino)
    adapt(model, variant.adapt, seed=variant.seed)
    model.train()
    step = TrainingStep(model, data, variant, params.finetune, image_size=plan.image_size, dino=dino)
    found = []
    for number, batch in zip(range(batches), data.batches(0), strict=False):
        result = step(batch, torch.Generator().manual_seed(number))
        gradients = [parameter.grad for parameter in step.parameters if parameter.grad is not None]
        found.append((float(result.loss.detach()), float(torch.nn.utils.get_total_norm(gradients))))
    return found


if __name__ == "__main__":
    with readable_errors("gradients.py"):
        main()
