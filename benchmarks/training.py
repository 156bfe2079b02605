"""The training loop: how far reading is hidden, and what its shortcuts save.

    python benchmarks/training.py [--device cuda]

All on a small drawn corpus, in the sizes of the mini profile (on a GPU also the published model, at 224 and
384 pixels, as `regroup plan --params full/params.yaml` measures it). Times are medians of several turns.

(a) Images a second of the loop end to end (read, decode, augment, step) against the step alone, its batch
    already in memory; with the reader in the training process, and in one process beside it.
(b) A step with the frozen text tower's features kept, against encoding every text again.
(c) A step with the frozen first stage kept, against computing it again, all views known.
(d) A step in four chunks against one on the whole batch: time, and bytes that the graph keeps.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from common import Result, in_turns, record

from regroup.adaptation.parts import set_trainable
from regroup.captions.labels import extract_labels
from regroup.captions.settings import NounsParams, ShardsParams
from regroup.captions.shards import build_shards
from regroup.model import GroupViT, GroupViTConfig
from regroup.sources.make import make_source
from regroup.sources.manifest import raw_root
from regroup.sources.settings import WorldParams
from regroup.training.data import CaptionBatch, CaptionData
from regroup.training.measure import measure, peak_memory
from regroup.training.plan import Plan
from regroup.training.settings import MINI_MODEL, FinetuneParams
from regroup.training.step import TrainingStep
from regroup.training.texts import TextFeatures
from regroup.variants import Variant

BATCH, SIZE, STEPS = 64, 112, 6
STUDY_SAMPLES = 591_753 * 30
VARIANT = Variant.model_validate(
    {
        "title": "benchmark",
        "resolution": 384,
        "objectives": [{"name": "contrastive"}, {"name": "multi_label"}, {"name": "group_entropy"}],
    }
)
SETTINGS = FinetuneParams(batch_divisor=4, image_sizes={224: 64, 384: SIZE}, snapshots=0)


class Setting:
    """A model, its data and its step, ready for batches."""

    def __init__(self, corpus: Path, settings: FinetuneParams, device: torch.device) -> None:
        self.data, self.plan = CaptionData.open(corpus / "captions", corpus / "shards", VARIANT, settings)
        config = replace(MINI_MODEL, image=replace(MINI_MODEL.image, image_size=SIZE))
        self.model = GroupViT(config, generator=torch.Generator().manual_seed(0))
        self.model.set_tokens(range(500))
        self.model.to(device).train()
        set_trainable(self.model, "both_gbs")
        if settings.views:
            self.data.keep_first_stages(self.model.image, room=2**32)
        self.step = TrainingStep(self.model, self.data, VARIANT, settings, image_size=SIZE)
        self.optimiser = torch.optim.AdamW(self.step.parameters, lr=1e-6)
        self.device = device

    def train(self, batch: CaptionBatch) -> None:
        self.step(batch, torch.Generator(self.device).manual_seed(0))
        self.optimiser.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def make_corpus(folder: Path) -> Path:
    make_source("coco", "mini", folder / "raw", world=WorldParams(coco_train=160, coco_val=1))
    root = raw_root(folder / "raw")
    build_shards(root, folder / "shards", ShardsParams())
    extract_labels(root, folder / "captions", NounsParams())
    return folder


def bench_loop(corpus: Path, device: torch.device) -> list[Result]:
    """(a): a loop of `STEPS` batches, whichever way they come."""

    def loop(setting: Setting, batches: Iterator[CaptionBatch]) -> None:
        for _ in range(STEPS):
            setting.train(next(batches))

    bare = Setting(corpus, SETTINGS, device)
    batch = next(bare.data.batches(0)).to(device, torch.float32)
    works = {"bare": lambda: [bare.train(batch) for _ in range(STEPS)]}
    for workers in (0, 1):
        setting = Setting(corpus, SETTINGS.model_copy(update={"workers": workers}), device)
        batches = setting.data.batches(0)
        loop(setting, batches)  # texts are encoded, processes started
        works[f"{workers} workers"] = lambda setting=setting, batches=batches: loop(setting, batches)
    taken = in_turns(works, repeats=3)
    rate = {name: STEPS * BATCH / seconds for name, seconds in taken.items()}
    return [
        Result(
            f"training loop, end to end with {name} (other: the bare step)",
            "images/s",
            rate[name],
            rate["bare"],
            rate[name] / rate["bare"],
        )
        for name in ("0 workers", "1 workers")
    ]


def bench_shortcuts(corpus: Path, device: torch.device) -> list[Result]:
    """(b), (c) and (d): one step each way."""
    plain, kept = (
        Setting(corpus, SETTINGS, device),
        Setting(corpus, SETTINGS.model_copy(update={"views": 1}), device),
    )
    chunked = Setting(corpus, SETTINGS.model_copy(update={"chunks": 4}), device)
    batch = next(plain.data.batches(0)).to(device, torch.float32)
    known = next(kept.data.batches(0)).to(device, torch.float32)

    def encode_again() -> None:
        ours = TextFeatures.__call__
        TextFeatures.__call__ = lambda self, numbers: self._encode(self._tokens(numbers))
        try:
            plain.train(batch)
        finally:
            TextFeatures.__call__ = ours

    taken = in_turns(
        {
            "plain": lambda: plain.train(batch),
            "texts": encode_again,
            "first stages": lambda: kept.train(known),
            "chunks": lambda: chunked.train(batch),
        }
    )
    memory = {}
    for name, setting in (("whole", plain), ("chunks", chunked)):
        with peak_memory(device, fixed=0) as peak:
            setting.train(batch)
        memory[name] = peak()
    return [
        Result(
            "step, frozen texts kept (other: encoded again)",
            "ms",
            1e3 * taken["plain"],
            1e3 * taken["texts"],
            taken["texts"] / taken["plain"],
        ),
        Result(
            "step, frozen first stage kept (other: computed again)",
            "ms",
            1e3 * taken["first stages"],
            1e3 * taken["plain"],
            taken["plain"] / taken["first stages"],
        ),
        Result(
            "step in 4 chunks (other: the whole batch at once)",
            "ms",
            1e3 * taken["chunks"],
            1e3 * taken["plain"],
            taken["plain"] / taken["chunks"],
        ),
        Result(
            "memory of the graph in 4 chunks (other: the whole batch at once)",
            "MB",
            memory["chunks"] / 1e6,
            memory["whole"] / 1e6,
            memory["whole"] / memory["chunks"],
        ),
    ]


def bench_study(device: torch.device) -> list[Result]:
    """The published model in the study's settings, on a GPU."""
    settings = FinetuneParams(precision="bf16", compile=False)
    results = []
    for resolution in (224, 384):
        variant = VARIANT.model_copy(update={"resolution": resolution, "batch": 256})
        plan = Plan.of(variant, settings, 591_753)
        config = GroupViTConfig()
        model = GroupViT(replace(config, image=replace(config.image, image_size=resolution)))
        began = time.perf_counter()
        one = measure(model, variant, settings, plan, device=device, images=256)
        print(f"measured in {time.perf_counter() - began:.0f} s")
        name = f"fine-tuning of the published model, {resolution} px, batch 256"
        rate = 256 / one.seconds
        results += [
            Result(name, "images/s", rate),
            Result(f"{name}: peak memory", "GB", one.memory / 1e9),
            Result(f"{name}: 30 epochs of 591,753 captions", "hours", STUDY_SAMPLES / rate / 3600),
        ]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    device = torch.device(parser.parse_args().device)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        corpus = make_corpus(Path(folder))
        results = bench_loop(corpus, device) + bench_shortcuts(corpus, device)
    if device.type == "cuda":
        results += bench_study(device)
    record(results, device=f", {torch.cuda.get_device_name()}" if device.type == "cuda" else "")


if __name__ == "__main__":
    main()
