"""Modules that are trained beside the model, for objectives to use: each module here makes one such head.

A module has its typed options and one function:

    class Options(HeadOptions): ...
    def build(config: BackboneConfig, options: Options, generator: torch.Generator) -> nn.Module

`build` draws weights from `generator`, a CPU's, or from torch's own, which then is in the same state. An
objective finds the module in `ObjectiveInputs.heads` by the head's name. Its parameters are in the optimiser,
in the state that a killed run goes on from, in snapshots (as `heads.<name>.<tensor>`), and beside the
checkpoint, in `heads.safetensors` and `heads.json`: the checkpoint itself is that of the model alone.

Nothing in this module imports torch before it is used: settings are read without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from regroup.errors import RegroupError, shortlist
from regroup.io import json_bytes, read_json, write_bytes
from regroup.plugins import Room, Use
from regroup.settings import Settings, parse

if TYPE_CHECKING:
    import torch
    from torch import nn

    from regroup.model.interface import BackboneConfig

HEADS = Room("regroup.heads", "head", ("build",))
WEIGHTS, CONFIG = "heads.safetensors", "heads.json"


class HeadOptions(Settings):
    """What every head may be told.

    `rate`: its learning rate, as a multiple of the run's.
    """

    rate: float = Field(default=1.0, gt=0, le=100_000)


def build_heads(config: BackboneConfig, heads: Sequence[Use], *, seed: int) -> nn.ModuleDict:
    """Make the heads of a run, by name, on the CPU.

    Args:
        config: of the model that they are trained beside.
        heads: which, and what each is told.
        seed: of the run; a head's weights follow from it and its place in the list.

    Raises:
        RegroupError: no such head, one that is listed twice, or a wrong option.
    """
    import torch
    from torch import nn

    built = nn.ModuleDict()
    for place, head in enumerate(heads):
        if head.name in built:
            raise RegroupError(f"heads: {head.name}: listed twice; give it once")
        generator = _generator(seed, place)
        with torch.random.fork_rng([]):
            torch.default_generator.set_state(generator.get_state())  # layers draw their weights from it
            built[head.name] = HEADS.load(head.name).build(config, _options(head), generator)
    return built


def learning_rates(heads: Sequence[Use]) -> dict[str, float]:
    """Each head's learning rate as a multiple of the run's."""
    return {head.name: getattr(_options(head), "rate", 1.0) for head in heads}


def save_heads(modules: nn.ModuleDict, heads: Sequence[Use], folder: Path) -> None:
    """Write weights and options beside a checkpoint; without heads, see that none lie there."""
    from safetensors.torch import save

    if not heads:
        for name in (WEIGHTS, CONFIG):
            (folder / name).unlink(missing_ok=True)
        return
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in modules.state_dict().items()}
    entries = [{"name": head.name, "options": _options(head).model_dump(mode="json")} for head in heads]
    write_bytes(folder / WEIGHTS, save(state, metadata={"format": "pt"}))
    write_bytes(folder / CONFIG, json_bytes(entries))


def load_heads(folder: Path, config: BackboneConfig) -> nn.ModuleDict:
    """The heads that were trained beside a checkpoint, in evaluation mode; empty if there were none.

    Args:
        folder: of the checkpoint.
        config: of its model.

    Raises:
        RegroupError: a file is damaged, or does not hold exactly the heads' tensors.
    """
    from regroup.model.weights import read_safetensors, require_finite

    if not (folder / CONFIG).is_file():
        return build_heads(config, (), seed=0)
    entries = parse(_Entries, {"heads": read_json(folder / CONFIG)}, folder / CONFIG)
    modules = build_heads(config, entries.heads, seed=0)
    tensors = read_safetensors(folder / WEIGHTS)
    require_finite(tensors, str(folder / WEIGHTS))
    _fill(modules, tensors, folder / WEIGHTS)
    return modules.eval()


def _fill(modules: nn.ModuleDict, tensors: Mapping[str, torch.Tensor], source: Path) -> None:
    own = modules.state_dict()
    wrong = [name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape]
    if problems := sorted({*(own.keys() ^ tensors.keys()), *wrong}):
        raise RegroupError(f"{source}: does not fit the heads of its run: {shortlist(problems)}")
    modules.load_state_dict(dict(tensors))


class _Entries(Settings):
    heads: tuple[Use, ...]


def _options(head: Use) -> Settings:
    return HEADS.options(head.name, head.options, where=f"heads: {head.name}")


def _generator(seed: int, place: int) -> torch.Generator:
    import numpy as np
    import torch

    # a stream of its own: adaptations are drawn from (seed, place)
    state = np.random.SeedSequence([seed, place, 1]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
