"""Fine-tuning of one variant: the loop, top to bottom.

Every random draw comes from (seed, step) or (seed, epoch, sample), so a killed run goes on from its last
saved state to the same bytes as one that was never killed, and several processes do what one would.
"""

from __future__ import annotations

import hashlib
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from regroup.errors import RegroupError
from regroup.io import sha256, source_digest
from regroup.model import Backbone
from regroup.model.collectives import world_size
from regroup.model.machine import machine
from regroup.model.trainable import set_trainable
from regroup.objectives import needs
from regroup.training.data import CaptionBatch, CaptionData
from regroup.training.parallel import everyones, is_first, wait_for_all
from regroup.training.plan import Plan
from regroup.training.schedule import learning_rate
from regroup.training.settings import FinetuneParams, OptimiserParams
from regroup.training.snapshots import FOLDER, save_snapshot, snapshot_steps
from regroup.training.state import FILE, Claim, TrainingState, forget, load_state
from regroup.training.step import TrainingStep
from regroup.variants import Variant

Curve = list[dict[str, float]]

CODE = ("captions", "model", "objectives", "pictures.py", "training")
"""Packages and modules that decide what comes of a run's inputs and settings."""
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
    observe: Callable[[int, dict[str, float]], None] = lambda step, row: None,
    progress: bool = True,
) -> Curve:
    """Train `model` in place; every process of a run calls this at the same time.

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
    model.to(device).train()
    trainable = set_trainable(model, variant.trainable, frozen_batch_norm=settings.frozen_batch_norm)
    optimiser = _optimiser(model, settings.optimiser)
    reads_pixels = needs(_terms(variant)).dino
    if settings.views is not None and model.first_stage_is_fixed() and not reads_pixels:
        data.keep_first_stages(model, room=settings.keep_views_mb * 2**20)
    training_step = TrainingStep(model, data, variant, settings, image_size=plan.image_size, dino=dino)
    if settings.compile:
        model.image.compile(dynamic=False)

    fingerprint = _fingerprint(variant, settings, plan, inputs_digest, device)
    curve: Curve = []
    recent: Curve = []
    snapshots: dict[str, str] = {}
    done = 0
    saved = load_state(state, fingerprint, tell=is_first())
    wait_for_all()  # everyone has looked before the first one clears up
    if saved is not None:
        model.load_state_dict(saved.model)
        optimiser.load_state_dict(saved.optimiser)
        curve, recent, snapshots, done = saved.curve, saved.recent, saved.snapshots, saved.step
    elif is_first():
        claim.confirm()
        forget(state)  # what another run left

    def save(step: int) -> None:
        if is_first():
            claim.confirm()
            parts = model.state_dict(), optimiser.state_dict(), curve, recent, snapshots
            TrainingState(fingerprint, step, *parts).save(state)
        wait_for_all()

    bar = tqdm(
        total=plan.steps,
        initial=done,
        unit="step",
        desc=f"{trainable:,} parameters",
        disable=None if progress and is_first() else True,
    )
    keep_at = snapshot_steps(plan.steps, settings.snapshots)
    with _termination() as asked_to_end:
        for step, batch in zip(range(done, plan.steps), data.batches(done), strict=False):
            rate = learning_rate(step, plan.epoch_steps, settings.optimiser)
            for group in optimiser.param_groups:
                group["lr"] = rate
            result = training_step(batch, _generator(variant.seed, step, device))
            norm = torch.nn.utils.clip_grad_norm_(training_step.parameters, settings.optimiser.clip)
            loss, gradient_norm = torch.stack([result.loss.detach(), norm.to(result.loss)]).tolist()
            row = {"learning_rate": rate, "gradient_norm": gradient_norm, "loss": loss, **result.metrics}
            if not math.isfinite(loss) or not math.isfinite(gradient_norm):
                raise RegroupError(_divergence(step, row, batch, state))
            optimiser.step()
            done, epoch = step + 1, (step + 1) / plan.epoch_steps

            recent.append(row)
            bar.update()
            if done % settings.log_every == 0 or done == plan.steps:
                mean = {name: float(np.mean([row[name] for row in recent])) for name in row}
                curve.append({"step": done, "epoch": epoch, **mean})
                observe(done, curve[-1])
                bar.set_postfix_str(f"loss {mean['loss']:.3f}")
                recent.clear()
            if done in keep_at and is_first():
                claim.confirm()
                file = save_snapshot(model, state / FOLDER, step=done, epoch=epoch)
                snapshots[f"{FOLDER}/{file.name}"] = sha256(file)
            ends = any(everyones([asked_to_end()])) if done % settings.log_every == 0 else False
            if done < plan.steps and (done % settings.save_every == 0 or ends):
                save(done)
            if ends:
                bar.close()
                raise SystemExit(128 + signal.SIGTERM)
    bar.close()
    model.eval()
    return curve


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


def _terms(variant: Variant) -> list[tuple[str, float, dict[str, str]]]:
    return [(term.name, term.weight, term.options) for term in variant.objectives]


def _optimiser(model: Backbone, settings: OptimiserParams) -> torch.optim.AdamW:
    """AdamW; parameters with one dimension or none (biases, norms, scales) are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {
            "params": [parameter for parameter in trained if parameter.ndim > 1],
            "weight_decay": settings.weight_decay,
        },
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps)


def _generator(seed: int, step: int, device: torch.device | str) -> torch.Generator:
    """The draws of one step (drop path, Gumbel noise), the same in every process and after a resume."""
    state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def _fingerprint(
    variant: Variant, settings: FinetuneParams, plan: Plan, inputs_digest: str, device: torch.device | str
) -> dict[str, str]:
    """All that a run's bytes follow from, by the names that a message gives them."""
    science = variant.model_dump_json(exclude={"title", "rows"})
    chosen = "\n".join([science, settings.model_dump_json(), repr(plan)])
    return {
        "settings": hashlib.sha256(chosen.encode()).hexdigest(),
        "inputs": inputs_digest,
        "code": source_digest(*CODE),
        "machine or libraries": f"{machine(device)}, {world_size()} processes",
    }


def _divergence(step: int, row: dict[str, float], batch: CaptionBatch, state: Path) -> str:
    ids = everyones(batch.image_ids.tolist())
    images = ", ".join(map(str, ids[:16])) + (f", ... ({len(ids)} in all)" if len(ids) > 16 else "")
    terms = ", ".join(f"{name} {value:g}" for name, value in row.items() if name != "learning_rate")
    good = f"the last good state is {state / FILE}" if (state / FILE).exists() else "no state was saved yet"
    return (
        f"training diverged at step {step}: {terms}; images of the batch: {images}; {good}. "
        "A lower finetune.optimiser.learning_rate is the usual remedy"
    )
