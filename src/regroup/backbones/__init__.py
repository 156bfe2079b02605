"""Backbones, each a file (or folder) of this package, found by listing.

A module of this room has

    config_from(values, *, source)           its sizes, from the plain values of a `config.json`
    make(config, generator)                  a model with random weights, a `regroup.model.Backbone`
    names()                                  how its tensors are told, a `Names` for each layout that it reads
    read(weights)                            a `Checkpoint`: sizes and model of tensors of one of `names`

and imports torch only within the last three, since settings are checked by the first.

A checkpoint names its architecture in `config.json`; one without the name, and every file of somebody else's,
is known by its tensors' names.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from regroup.errors import RegroupError, shown
from regroup.io import read_json
from regroup.plugins import Room

if TYPE_CHECKING:
    import torch

    from regroup.model.interface import Backbone, BackboneConfig
    from regroup.model.weights import Weights

ROOM = Room("regroup.backbones", "backbone", ("config_from", "make", "names", "read"))
CONFIG = "config.json"


class Checkpoint(Protocol):
    """A checkpoint as it was read; no model is made yet.

    Attributes:
        weights: the tensors and where they were.
        config: sizes of the model.
        title: of the layout, for messages.
    """

    @property
    def weights(self) -> Weights: ...  # noqa: D102

    @property
    def config(self) -> BackboneConfig: ...  # noqa: D102

    @property
    def title(self) -> str: ...  # noqa: D102

    def model(self) -> Backbone:
        """The model, in evaluation mode on the CPU, in float32.

        Raises:
            RegroupError: any tensor is missing, unexpected, misshapen or not finite; all are listed.
        """


def architecture_of(values: object, *, source: str) -> str:
    """Which backbone a `config.json` of ours is of; those written before it said so are GroupViT's.

    Raises:
        RegroupError: it names none that there is.
    """
    if not isinstance(values, dict):
        raise RegroupError(f"{source}: not an object; compare with a config.json of `regroup`")
    name = values.get("architecture", "groupvit")
    if not isinstance(name, str):
        raise RegroupError(f"{source}: architecture: {shown(name)} is no name of a backbone")
    try:
        ROOM.check(name)
    except RegroupError as error:
        raise RegroupError(f"{source}: architecture: {error}") from None
    return name


def config_from(values: object, *, source: str) -> BackboneConfig:
    """Sizes of the backbone that the plain values of a `config.json` name.

    Raises:
        RegroupError: no such backbone; or a key is unknown, missing or ill-typed, or values contradict each
            other.
    """
    config: BackboneConfig = ROOM.load(architecture_of(values, source=source)).config_from(
        values, source=source
    )
    return config


def make(config: BackboneConfig, generator: torch.Generator) -> Backbone:
    """A backbone of these sizes with random weights."""
    model: Backbone = ROOM.load(config.architecture).make(config, generator)
    return model


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the tensors and sizes of a checkpoint, a file or a folder of any backbone's.

    Raises:
        RegroupError: the file is missing, damaged, or of no backbone; or its configuration is absurd.
    """
    from regroup.model.weights import find_weights, read_weights

    beside = find_weights(path).parent / CONFIG
    values: Any = read_json(beside) if beside.is_file() else None
    named = isinstance(values, dict) and "architecture" in values
    among = [architecture_of(values, source=str(beside))] if named else list(ROOM.names)
    plugins = [ROOM.load(name) for name in among]
    known = {id(names): (names, plugin) for plugin in plugins for names in plugin.names()}
    layouts = [names for names, _ in known.values()]
    weights = read_weights(path, *layouts, otherwise=f"none of the layouts of {', '.join(among)}")
    checkpoint: Checkpoint = known[id(weights.names)][1].read(weights)
    return checkpoint


def load_checkpoint(path: Path, *, image_size: int | None = None) -> Backbone:
    """Load a checkpoint of any backbone in any of its layouts, strictly; nothing in it is ever run.

    Where a file holds several models (a moving average beside the weights), one is taken and standard error
    says which.

    Args:
        path: our folder, a Hugging Face folder or file (`pytorch_model.bin`, `model.safetensors`, or an index
            of parts), or a `.pth` as training code writes it.
        image_size: resize the position embedding to this training size in pixels (section 5.9).

    Returns:
        The model, in evaluation mode on the CPU, in float32.

    Raises:
        RegroupError: the file cannot be read, or any tensor is missing, unexpected, misshapen or not finite;
            all are listed.
    """
    read = read_checkpoint(path)
    if read.weights.note:
        print(f"{read.weights.file}: {read.weights.note}", file=sys.stderr)
    model = read.model()
    return model if image_size is None else model.with_image_size(image_size)
