"""Model and objectives against Hugging Face's GroupViT and a plain loop.

    python benchmarks/model.py [--device cuda] [--compile] [--only step targets tower]

(a) One fine-tuning step with the grouping blocks trained: published shape, 224 px, 16 images, a caption and
    five labels each; forward, loss, backward and AdamW. Hugging Face's model gets the same frozen parameters,
    the same loss, and the 77 columns that its processor pads texts to. Ours is timed with the text tower's
    features cached (what the trainer does from the second epoch on) and without.
(b) Targets of the noise-free loss for 512 images of five labels against a loop over the strings.
(c) The image tower at 448 px with and without returned assignments, time and peak memory.

What bounds (a) on a CPU in float32 is matrix products that both models must do: the six blocks before the
first grouping block, frozen but fed with new pixels, and the tail forwards and backwards. A line of the
results counts them; their ratio is about what could be reached if nothing else took time, and is less than
three. What is saved is the text tower's work (each distinct text once, cut to its length, or not at all where
its features are cached) and passes over memory between the products.
On a GPU (a) is in images per second, with bf16 on both sides; --compile compiles our image tower.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from common import Result, in_turns, record
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from regroup.adaptation.parts import set_trainable
from regroup.captions.prompts import prompt
from regroup.captions.tokens import tokenize
from regroup.model import GroupViT, GroupViTConfig
from regroup.objectives import Labels, Need, ObjectiveInputs, Term, total_loss
from regroup.objectives.noise_free import noise_free_targets

TERMS = [Term(name="contrastive", weight=1.0), Term(name="multi_label", weight=1.0)]
CAPTIONS = (
    "A man riding a wave on top of a surfboard.",
    "Two dogs are playing with a frisbee in a large green field.",
    "A kitchen with a stove, a sink and a microwave above the counter.",
    "A group of people sitting around a wooden table with plates of food.",
    "A red double decker bus driving down a busy city street.",
    "A cat sleeping on a laptop keyboard next to a coffee mug.",
    "Several boats docked in the harbor near a tall building.",
    "A young boy holding a baseball bat at home plate.",
    "A herd of elephants walking across a dry grass field.",
    "A bathroom with a white toilet, a bath tub and a small window.",
    "A train traveling down tracks next to a forest.",
    "A plate of broccoli, rice and grilled chicken on a table.",
    "A woman in a black dress talking on her cell phone.",
    "A bench in a park that is covered with snow.",
    "Three zebras standing next to each other by a fence.",
    "A large clock tower towering over a city at night.",
)
LABELS = (
    "man/wave/surfboard/top/a wave on top",
    "dogs/frisbee/field/green field/large green field",
    "kitchen/stove/sink/microwave/counter",
    "group/people/table/plates/wooden table",
    "bus/decker bus/city street/busy city street/street",
    "cat/laptop keyboard/coffee mug/mug/keyboard",
    "boats/harbor/building/tall building/several boats",
    "boy/young boy/baseball bat/home plate/plate",
    "herd/elephants/field/dry grass field/grass",
    "bathroom/toilet/bath tub/window/small window",
    "train/tracks/forest/down tracks/next to a forest",
    "plate/broccoli/rice/chicken/table",
    "woman/dress/black dress/cell phone/phone",
    "bench/park/snow/a bench in a park/cover",
    "zebras/fence/three zebras/other/each other",
    "clock/tower/clock tower/city/night",
)
PLACES = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile our image tower (slow to start)")
    parser.add_argument("--batch", type=int, default=16, help="images of a step (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=("step", "targets", "tower"))
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    wanted = arguments.only or ["step", "targets", "tower"]
    gpu = f", {torch.cuda.get_device_name()}" if device.type == "cuda" else ""
    if "step" in wanted:
        record(step_results(Step(device, arguments.batch, compiled=arguments.compile)), device=gpu)
    if "targets" in wanted:
        record(target_results(), device=gpu)
    if "tower" in wanted:
        record(tower_results(device), device=gpu)


class Step:
    """The same fine-tuning step with either model."""

    def __init__(self, device: torch.device, batch: int, *, compiled: bool) -> None:
        from transformers import GroupViTConfig as TheirConfig
        from transformers import GroupViTModel

        generator = torch.Generator().manual_seed(0)
        self.device = device
        self.batch = batch
        self.pixels = torch.randn(batch, 3, 224, 224, generator=generator).to(device)
        self.tokens = make_tokens(batch).to(device)
        self.ids = torch.arange(batch * PLACES, device=device).view(batch, PLACES)
        self.ours = GroupViT(GroupViTConfig(), generator=generator).to(device).train()
        trained = set_trainable(self.ours, "both_gbs")
        self.theirs = GroupViTModel(TheirConfig()).to(device).train().requires_grad_(False)
        for stage in self.theirs.vision_model.encoder.stages[:2]:
            stage.downsample.requires_grad_(True)
        parameters = [p for p in self.theirs.parameters() if p.requires_grad]
        assert sum(p.numel() for p in parameters) == trained
        self.their_optimiser = torch.optim.AdamW(parameters)
        self.our_optimiser = torch.optim.AdamW([p for p in self.ours.parameters() if p.requires_grad])
        self.their_scale = torch.tensor(2.6592, device=device)
        self.encode = torch.compile(self._encode, fullgraph=True) if compiled else self._encode
        with torch.no_grad():
            self.cache = self.ours.encode_text_tower(self.tokens)

    def _encode(self, pixels: Tensor, noise: object) -> Tensor:
        return self.ours.encode_image(pixels, noise=noise, return_segments=False).feature

    def step_ours(self, precision: torch.dtype, *, cached: bool) -> None:
        with self._autocast(precision):
            image = self.encode(self.pixels, self.ours.draw_noise(self.pixels))
            texts = self.ours.text_projector(self.cache) if cached else self.ours.encode_text(self.tokens)
        scales = (self.ours.logit_scale, self.ours.multi_label_logit_scale)
        self._finish(image, texts, *scales, self.our_optimiser)

    def step_theirs(self, precision: torch.dtype) -> None:
        with self._autocast(precision):
            image = self.theirs.get_image_features(self.pixels).pooler_output
            texts = self.theirs.get_text_features(self.tokens).pooler_output
        self._finish(image, texts, self.theirs.logit_scale, self.their_scale, self.their_optimiser)

    def _finish(
        self,
        image: Tensor,
        texts: Tensor,
        scale: Tensor,
        label_scale: Tensor,
        optimiser: torch.optim.Optimizer,
    ) -> None:
        labels = texts[self.batch :].view(self.batch, PLACES, -1)
        given = {Need.LABELS: Labels(labels, self.ids)}
        inputs = ObjectiveInputs(image, texts[: self.batch], scale, label_scale, given=given)
        total_loss(TERMS, inputs).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _autocast(self, precision: torch.dtype) -> torch.autocast:
        return torch.autocast(self.device.type, precision, enabled=precision != torch.float32)


def make_tokens(batch: int) -> Tensor:
    """Captions, then labels in their templates, in 77 columns as in the study."""
    rows = [index % len(CAPTIONS) for index in range(batch)]
    labels = [
        prompt(label, (7 * index + place) % 7)
        for index, row in enumerate(rows)
        for place, label in enumerate(LABELS[row].split("/"))
    ]
    return torch.from_numpy(tokenize([CAPTIONS[row] for row in rows] + labels, width=77))


def step_results(step: Step) -> list[Result]:
    half, full = torch.bfloat16, torch.float32
    if step.device.type == "cuda":
        times = in_turns(
            {"ours": lambda: step.step_ours(half, cached=True), "theirs": lambda: step.step_theirs(half)}, 20
        )
        rate = {name: step.batch / value for name, value in times.items()}
        name = f"fine-tuning step, {step.batch} images, bf16, GPU"
        return [Result(name, "images/s", rate["ours"], rate["theirs"], rate["ours"] / rate["theirs"])]
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: step.step_ours(full, cached=True),
        "theirs": lambda: step.step_theirs(full),
        "ours, texts anew": lambda: step.step_ours(full, cached=False),
    }
    # without instructions for it bf16 is emulated, ten times slower than float32
    has_half = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if has_half:
        works["ours, bf16"] = lambda: step.step_ours(half, cached=True)
        works["theirs, bf16"] = lambda: step.step_theirs(half)
    times = in_turns(works, repeats=4)
    products = {
        "ours": operations(lambda: step.step_ours(full, cached=True)),
        "theirs": operations(lambda: step.step_theirs(full)),
    }

    def line(name: str, ours: str, theirs: str) -> Result:
        return Result(
            f"fine-tuning step, {step.batch} images, {name}",
            "s",
            times[ours],
            times[theirs],
            times[theirs] / times[ours],
        )

    return [
        line("fp32", "ours", "theirs"),
        line("fp32, texts not cached", "ours, texts anew", "theirs"),
        *([line("bf16", "ours, bf16", "theirs, bf16")] if has_half else []),
        *([line("bf16 against fp32", "ours, bf16", "theirs")] if has_half else []),
        Result(
            f"fine-tuning step, {step.batch} images, matrix products",
            "GFLOP",
            products["ours"],
            products["theirs"],
            products["theirs"] / products["ours"],
        ),
    ]


def operations(work: Callable[[], object]) -> float:
    """Floating-point operations of the matrix products in `work`, in 1e9."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops() / 1e9


def target_results() -> list[Result]:
    """A batch of 512 with five labels from two thousand strings, the frequent ones far ahead."""
    rng = np.random.default_rng(0)
    words = [f"word {index}" for index in range(2000)]
    drawn = np.minimum(rng.zipf(1.3, size=(512, PLACES)), len(words)) - 1
    strings = [[words[index] for index in row] for row in drawn]
    ids = torch.from_numpy(drawn)
    looped = loop_over_strings(strings)
    for ours, expected in zip(noise_free_targets(ids), looped, strict=True):
        np.testing.assert_allclose(ours.numpy(), np.array(expected), rtol=1e-6)
    times = in_turns({"ours": lambda: noise_free_targets(ids), "loop": lambda: loop_over_strings(strings)}, 7)
    ratio = times["loop"] / times["ours"]
    return [Result("noise-free targets, 512 x 5 labels", "s", times["ours"], times["loop"], ratio)]


def loop_over_strings(strings: list[list[str]]) -> tuple[list[list[float]], list[list[float]]]:
    """Both directions' targets, comparing every label with every other as strings."""
    first, second = [], []
    for own in strings:
        row = []
        for other in strings:
            for label in other:
                match = 0.0
                for mine in own:
                    if mine == label:
                        match = 1.0
                        break
                row.append(match)
        total = sum(row)
        first.append([value / total for value in row])
    for row in strings:
        for label in row:
            column = []
            for other in strings:
                match = 0.0
                for theirs in other:
                    if theirs == label:
                        match = 1.0
                        break
                column.append(match)
            total = sum(column)
            second.append([value / total for value in column])
    return first, second


@torch.no_grad()
def tower_results(device: torch.device) -> list[Result]:
    model = GroupViT(GroupViTConfig(), generator=torch.Generator().manual_seed(0)).to(device).eval()
    pixels = torch.randn(4, 3, 448, 448, generator=torch.Generator().manual_seed(1)).to(device)

    def forward(asked: bool) -> Callable[[], object]:
        def run() -> object:
            out = model.image(pixels, return_attention=asked)
            if device.type == "cuda":
                torch.cuda.synchronize()
            return out

        return run

    times = in_turns({"plain": forward(False), "asked": forward(True)})
    memory = {name: peak_memory(forward(name == "asked"), device) for name in ("plain", "asked")}
    names = "image tower, 4 x 448 px, without against with assignments"
    return [
        Result(f"{names}, time", "s", times["plain"], times["asked"], times["asked"] / times["plain"]),
        Result(
            f"{names}, peak memory", "MB", memory["plain"], memory["asked"], memory["asked"] / memory["plain"]
        ),
    ]


def peak_memory(work: Callable[[], object], device: torch.device) -> float:
    """Most memory that torch's allocator held for `work` at a time, beyond what it held before, in MB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        work()
    held, first = 0, 0
    for event in allocations(profile):
        first = first or event["Total Allocated"] - event["Bytes"]
        held = max(held, event["Total Allocated"])
    return (held - first) / 1e6


def allocations(profile: torch.profiler.profile) -> list[dict[str, int]]:
    """Every allocation and release, in order of time."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(file))
        events = json.loads(file.read_text())["traceEvents"]
    memory = [event for event in events if event.get("name") == "[memory]"]
    return [event["args"] for event in sorted(memory, key=lambda event: event["ts"])]


if __name__ == "__main__":
    main()
