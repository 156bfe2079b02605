"""LoRA: a low-rank change of chosen linear layers, all else frozen (Hu et al. 2022), by the library `peft`.

A layer W x becomes W x + (alpha / rank) B A x with A [rank, in] and B [out, rank]; B starts at zero, so the
model starts as it was. Merged, W + (alpha / rank) B A is a plain layer again.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from regroup.errors import RegroupError
from regroup.settings import EachOnce, Settings

if TYPE_CHECKING:  # peft takes seconds to import: only who attaches it pays
    import torch

    from regroup.model import Backbone

Target = Literal[
    "image_attention", "image_mlp", "grouping_blocks", "text_attention", "text_mlp", "projectors"
]

_LAYERS: dict[Target, str] = {
    # query, key and value are one layer, `qkv`, and get one A and one B
    "image_attention": r"image\.(.+\.)?blocks\.\d+\.attention\.(qkv|out)",
    "image_mlp": r"image\.(.+\.)?blocks\.\d+\.mlp\.(up|down)",
    # not the mixer, which is over a few tokens
    "grouping_blocks": r"image\..+\.grouping\.(?!mixer\.).+",
    "text_attention": r"text\.(.+\.)?blocks\.\d+\.attention\.(qkv|out)",
    "text_mlp": r"text\.(.+\.)?blocks\.\d+\.mlp\.(up|down)",
    "projectors": r"(image|text)_projector(\.(hidden|out))?",
}


class Options(Settings):
    """How large the change may be, and of which layers.

    `targets`: `image_attention` and `image_mlp` are those of the image tower's transformer blocks,
    `grouping_blocks` all linear layers over channels of these, `text_*` the same of the text tower. `dropout`
    is that of the adapter's input.
    """

    rank: int = Field(default=8, ge=1, le=4096)
    alpha: float = Field(default=16, gt=0, le=65_536)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: Annotated[tuple[Target, ...], Field(min_length=1), EachOnce] = ("image_attention",)


def attach(model: Backbone, options: Options, generator: torch.Generator) -> None:
    """Put adapters beside the target layers; only they learn.

    Raises:
        RegroupError: the model has no layer of a target, or the rank is no smaller than a layer.
    """
    import torch
    from peft import LoraConfig, LoraModel

    names = _targets(model, options)
    learning = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        target_modules=f"(?:{'|'.join(map(re.escape, names))})",
    )
    with torch.random.fork_rng(_gpus(model)):  # peft draws weights from the global generators
        LoraModel(model, config, "default")
    del model.peft_config
    for name, parameter in model.named_parameters():
        if name in learning:  # peft froze what others train
            parameter.requires_grad_(learning[name])
    _draw(model, options, generator)


def export(model: Backbone) -> Backbone:
    """Merge each adapter into its layer."""
    for name, layer in _adapters(model):
        layer.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    return model


def _targets(model: Backbone, options: Options) -> list[str]:
    """Names of the target layers, in the model's order."""
    from torch import nn

    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    found: set[str] = set()
    for target in options.targets:
        own = {name for name in linear if re.fullmatch(_LAYERS[target], name)}
        if not own:
            raise RegroupError(f"adapt: lora: targets: this model has no layers of {target}")
        found |= own
    names = [name for name in linear if name in found]
    for name in names:
        size = min(linear[name].in_features, linear[name].out_features)
        if options.rank >= size:
            raise RegroupError(
                f"adapt: lora: rank: {options.rank} is no low rank for {name}, {size} channels wide; "
                f"choose less than {size}, or train the layer itself (`parts`)"
            )
    return names


def _draw(model: Backbone, options: Options, generator: torch.Generator) -> None:
    """Start A as `nn.Linear` would, from the run's own generator, and B at zero; give dropout its draws."""
    import torch
    from torch import nn

    from regroup.model.dropout import RowDropout

    for number, (_, layer) in enumerate(_adapters(model)):
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        start = torch.empty(down.shape)
        nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
        with torch.no_grad():
            down.copy_(start)
            up.zero_()
        if options.dropout:
            layer.lora_dropout["default"] = RowDropout(options.dropout, number)


def _adapters(model: Backbone) -> list[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    return [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]


def _gpus(model: Backbone) -> list[int]:
    """GPUs that hold layers, whose generators would be drawn from too."""
    devices = {parameter.device for parameter in model.parameters()}
    return [device.index or 0 for device in devices if device.type == "cuda"]
