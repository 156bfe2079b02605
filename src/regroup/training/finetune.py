"""Fine-tuning of one variant: the loop, top to bottom.

Every random draw comes from (seed, step) or (seed, epoch, sample), so a killed run goes on from its last
saved state to the same bytes as one that was never killed, and several processes do what one would.
"""

from __future__ import annotations

import hashlib
import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from regroup.adaptation import Adapted, adapt, count_trainable
from regroup.backbones import ROOM as BACKBONES
from regroup.errors import RegroupError
from regroup.heads import learning_rates
from regroup.io import source_digest
from regroup.model import Backbone
from regroup.model.collectives import world_size
from regroup.model.machine import machine
from regroup.objectives import needs
from regroup.training.batch_norm import Statistics
from regroup.training.data import CaptionBatch, CaptionData
from regroup.training.parallel import gathered_values, is_first
from regroup.training.plan import Plan
from regroup.training.progress import Curve, Learner, Progress, Row
from regroup.training.providers import read_pixels
from regroup.training.schedule import learning_rate
from regroup.training.settings import FinetuneParams, OptimiserParams
from regroup.training.snapshots import snapshot_steps
from regroup.training.state import FILE, Claim
from regroup.training.step import TrainingStep
from regroup.training.texts import KeptTexts
from regroup.variants import Variant, code_digests

CODE = (
    "adaptation/__init__.py",
    "captions",
    "heads/__init__.py",
    "model",
    "objectives/__init__.py",
    "pictures.py",
    "training",
)
"""Packages and modules that decide what comes of a run's inputs and settings, beside its plugins."""
NO_CLAIM = Claim()


def finetune(
    model: Backbone,
    data: CaptionData,
    variant: Variant,
    settings: FinetuneParams,
    plan: Plan,
    *,
    state: Path,
    inputs_digest: str,
    claim: Claim = NO_CLAIM,
    device: torch.device | str = "cpu",
    dino: nn.Module | None = None,
    heads: nn.ModuleDict | None = None,
    texts: KeptTexts | None = None,
    observe: Callable[[int, dict[str, float]], None] = lambda step, row: None,
    progress: bool = True,
) -> Curve:
    """Train `model` in place; every process of a run calls this at the same time.

    The variant's adaptations are attached before and exported after, so the model's names and shapes stay.

    Args:
        model: the pretrained model, its position embedding already resized to `plan.image_size`.
        data: captions, images and labels of the training split, batched as `plan` says.
        variant: what is trained, with which labels and objectives.
        settings: the profile's scale.
        plan: steps and sizes.
        state: folder of the state that a killed run resumes from, and of its snapshots; the caller takes the
            snapshots out and forgets the rest when its outputs are written.
        inputs_digest: names the inputs; a state with another digest is not resumed from, nor one that other
            code, settings or another kind of machine made.
        claim: that no other run writes `state`; confirmed before anything is written.
        device: this process's device.
        dino: patch features for the objectives that distil them.
        heads: those of the variant, as `build_heads` makes them; trained in place too.
        texts: features of a frozen text tower, kept for the next run of other seeds; None: for this one.
        observe: called with (step, metrics) every `settings.log_every` steps.
        progress: show a progress bar.

    Returns:
        One row every `settings.log_every` steps: step, epoch, learning_rate, gradient_norm, loss and every
        objective's own value, all means over the rows since the one before.

    Raises:
        RegroupError: the loss or its gradient is not finite; names the step, the images of the batch and the
            last good state. Or another run took this one for dead, and has its state now.
        SystemExit: the process was asked to end (SIGTERM); its state is saved.
    """
    held = variant.batch_norm.statistics == "held"
    adapted = adapt(model, variant.adapt, seed=variant.seed, held_statistics=held)
    heads = nn.ModuleDict() if heads is None else heads
    model.to(device).train()
    heads.to(device).train()
    optimiser = _optimiser(model, heads, learning_rates(variant.heads), settings.optimiser)
    reads_pixels = read_pixels(needs(variant.objectives))
    if settings.views is not None and model.first_stage_is_fixed() and not reads_pixels:
        data.keep_first_stages(model, room=settings.keep_views_mb * 2**20)
    training_step = TrainingStep(
        model, data, variant, settings, image_size=plan.image_size, dino=dino, heads=heads, texts_kept=texts
    )
    if settings.compile:
        model.image.compile(dynamic=False)
    statistics = Statistics(model, data, variant.batch_norm)
    learner = Learner(model, adapted, heads, optimiser)
    backbone = BACKBONES.digest(model.config.architecture)
    fingerprint = fingerprint_of(variant, settings, plan, inputs_digest, backbone, device)
    run = Progress(state, fingerprint, claim, learner)
    run.resume()
    if variant.regroups and settings.snapshots and not run.done:
        # others start as their checkpoint, which is scored anyway
        run.take_snapshot(0.0, statistics.after(0))

    shown = progress and is_first()
    if shown:
        print(_described(adapted, heads))
    keep_at = snapshot_steps(plan.steps, settings.snapshots)
    with _progress_bar(run.done, plan.steps, shown=shown) as bar, _termination() as asked_to_end:
        for step, batch in zip(range(run.done, plan.steps), data.batches(run.done), strict=False):
            rate = learning_rate(step, plan.epoch_steps, settings.optimiser)
            learner.set_rate(rate)
            row = {"learning_rate": rate, **_gradients(training_step, batch, variant.seed, step, settings)}
            if not math.isfinite(row["loss"]) or not math.isfinite(row["gradient_norm"]):
                raise RegroupError(_divergence(step, row, batch, state))
            optimiser.step()

            run.add(row)
            bar.update()
            epoch = run.done / plan.epoch_steps
            logs = run.done % settings.log_every == 0
            if logs or run.done == plan.steps:
                mean = run.sum_up(epoch)
                observe(run.done, mean)
                bar.set_postfix_str(f"loss {mean['loss']:.3f}")
            if run.done in keep_at:
                run.take_snapshot(epoch, statistics.after(run.done))
            ends = logs and any(gathered_values([asked_to_end()]))
            if run.done < plan.steps and (run.done % settings.save_every == 0 or ends):
                run.save()
            if ends:
                raise SystemExit(128 + signal.SIGTERM)
    statistics.finish(plan.steps)
    adapted.export(model).eval()
    heads.eval()
    return run.curve


def _gradients(
    training_step: TrainingStep, batch: CaptionBatch, seed: int, step: int, settings: FinetuneParams
) -> Row:
    """Set the clipped gradients of one step; its loss, terms and the norm before clipping."""
    device = training_step.device
    result = training_step(batch, _generator(seed, step, device))
    norm = torch.nn.utils.clip_grad_norm_(training_step.parameters, settings.optimiser.clip)
    loss, gradient_norm = torch.stack([result.loss.detach(), norm.to(result.loss)]).tolist()
    return {"gradient_norm": gradient_norm, "loss": loss, **result.metrics}


def _described(adapted: Adapted, heads: nn.ModuleDict) -> str:
    count = count_trainable(heads)
    return f"{adapted}" + (f", {count:,} in heads ({', '.join(heads)})" if count else "")


@contextmanager
def _progress_bar(done: int, steps: int, *, shown: bool) -> Iterator[tqdm]:
    """A bar on standard error, off a terminal none; None lets tqdm see which."""
    bar = tqdm(total=steps, initial=done, unit="step", disable=None if shown else True)
    with bar:
        yield bar


@contextmanager
def _termination() -> Iterator[Callable[[], int]]:
    """Within the block, SIGTERM (a cluster's word that time is up) is noted, not obeyed at once."""
    received = 0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal received
        received = 1

    try:
        before = signal.signal(signal.SIGTERM, note)
    except ValueError:  # not the main thread, which alone may handle signals
        yield lambda: 0
        return
    try:
        yield lambda: received
    finally:
        signal.signal(signal.SIGTERM, before)


def _optimiser(
    model: Backbone, heads: nn.ModuleDict, rates: Mapping[str, float], settings: OptimiserParams
) -> torch.optim.AdamW:
    """AdamW; parameters with one dimension or none (biases, norms, scales) are not decayed."""
    groups = []
    for module, rate in [(model, 1.0), *((head, rates[name]) for name, head in heads.items())]:
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        decayed = [parameter for parameter in trained if parameter.ndim > 1]
        rest = [parameter for parameter in trained if parameter.ndim <= 1]
        groups += [
            {"params": decayed, "weight_decay": settings.weight_decay, "rate": rate},
            {"params": rest, "weight_decay": 0.0, "rate": rate},
        ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps)


def _generator(seed: int, step: int, device: torch.device | str) -> torch.Generator:
    """The draws of one step (drop path, Gumbel noise), the same in every process and after a resume."""
    state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def fingerprint_of(
    variant: Variant,
    settings: FinetuneParams,
    plan: Plan,
    inputs_digest: str,
    backbone: str,
    device: torch.device | str,
) -> dict[str, str]:
    """All that a run's bytes follow from, by the names that a message gives them."""
    science = variant.model_dump_json(exclude={"title", "rows"})
    # how many seeds there are beside this one changes nothing in its run
    chosen = "\n".join([science, settings.model_dump_json(exclude={"seeds"}), repr(plan)])
    code = f"{source_digest(*CODE)} {code_digests(variant)} {backbone}"
    return {
        "settings": hashlib.sha256(chosen.encode()).hexdigest(),
        "inputs": inputs_digest,
        "code": hashlib.sha256(code.encode()).hexdigest(),
        "machine or libraries": f"{machine(device)}, {world_size()} processes",
    }


def _divergence(step: int, row: Row, batch: CaptionBatch, state: Path) -> str:
    ids = gathered_values(batch.image_ids.tolist())
    images = ", ".join(map(str, ids[:16])) + (f", ... ({len(ids)} in all)" if len(ids) > 16 else "")
    terms = ", ".join(f"{name} {value:g}" for name, value in row.items() if name != "learning_rate")
    good = f"the last good state is {state / FILE}" if (state / FILE).exists() else "no state was saved yet"
    return (
        f"training diverged at step {step}: {terms}; images of the batch: {images}; {good}. "
        "A lower finetune.optimiser.learning_rate is the usual remedy"
    )
