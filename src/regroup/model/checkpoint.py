"""GroupViT's checkpoints: our own folder, the original `.pth`, Hugging Face's files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from regroup.errors import RegroupError, shortlist
from regroup.io import read_json, write_bytes, write_json
from regroup.model.config import GroupViTConfig
from regroup.model.dino import DinoKeys
from regroup.model.groupvit import GroupViT
from regroup.model.infer import infer_config, overlay_hugging_face_config
from regroup.model.interface import Backbone
from regroup.model.names import HUGGING_FACE, NAMES, ORIGINAL, Layout
from regroup.model.weights import (
    CONFIG,
    WEIGHTS,
    State,
    Weights,
    require_finite,
)

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "Checkpoint",
    "export_state",
    "fill",
    "hugging_face_config",
    "interpret",
    "save_checkpoint",
    "save_hugging_face",
    "save_original",
    "with_stage_two",
]

LARGEST_LOGIT_SCALE = 80.0
"""exp(88.8) is infinite in float32; CLIP holds its scale below 4.7."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it was read: whose model, of what shape, in which layout (None: ours)."""

    weights: Weights
    config: GroupViTConfig
    layout: Layout | None

    @property
    def title(self) -> str:
        """Of the layout."""
        return self.layout.title if self.layout else "regroup"

    def model(self) -> GroupViT:
        """The model, in evaluation mode on the CPU, in float32.

        Raises:
            RegroupError: any tensor is missing, unexpected, misshapen or not finite; all are listed.
        """
        model = GroupViT(self.config, draw=False, storage=False)
        fill(model, self.weights.state, self.layout, source=str(self.weights.file))
        return model.eval()


def save_checkpoint(model: Backbone, folder: Path) -> None:
    """Write `model.safetensors` and `config.json` to `folder`; the same weights give the same bytes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / WEIGHTS, save(state, metadata={"format": "pt"}))
    write_json(folder / CONFIG, model.config.to_dict())


def save_original(model: GroupViT, path: Path) -> None:
    """Write a `.pth` with the original code's names under `model`, and our configuration under `config`."""
    buffer = io.BytesIO()  # a path would put its own name, which is temporary, into the bytes
    torch.save({"model": export_state(model, ORIGINAL), "config": model.config.to_dict()}, buffer)
    write_bytes(path, buffer.getvalue())


def save_hugging_face(model: GroupViT, folder: Path) -> None:
    """Write a folder that `transformers.GroupViTModel.from_pretrained` reads.

    Hugging Face's model has no multi-label scale and no compact vocabulary, so the first is left out.

    Raises:
        RegroupError: the model has a compact vocabulary, or features of its own as stage-2 input.
    """
    if model.config.text.compact:
        raise RegroupError("text.vocabulary: Hugging Face's GroupViT cannot hold a compact vocabulary")
    state = export_state(model, HUGGING_FACE)
    write_bytes(folder / WEIGHTS, save(state, metadata={"format": "pt"}))
    write_json(folder / CONFIG, hugging_face_config(model.config))


def interpret(weights: Weights) -> Checkpoint:
    """Configuration and layout of tensors of one of `NAMES`.

    Raises:
        RegroupError: the configuration is missing or absurd.
    """
    file, beside = weights.file, weights.file.parent / CONFIG
    if weights.names is NAMES["regroup"]:
        return Checkpoint(weights, GroupViTConfig.from_dict(read_json(beside), source=str(beside)), None)
    if weights.names is NAMES["Hugging Face"]:
        config = infer_config(weights.state, HUGGING_FACE, source=str(file))
        if beside.is_file():
            config = overlay_hugging_face_config(config, read_json(beside), source=str(beside))
        return Checkpoint(weights, config, HUGGING_FACE)
    stored = weights.stored
    if isinstance(stored, dict) and {"image", "text", "projector_hidden"} <= stored.keys():
        return Checkpoint(weights, GroupViTConfig.from_dict(stored, source=f"{file}: config"), ORIGINAL)
    return Checkpoint(weights, infer_config(weights.state, ORIGINAL, source=str(file)), ORIGINAL)


def fill(model: Backbone, state: Mapping[str, Tensor], layout: Layout | None, *, source: str) -> None:
    """Copy `state` into `model`, which gets its memory only now if it has none; every difference is an error.

    Raises:
        RegroupError: lists all missing, unexpected and misshapen tensors; or those that are not finite.
    """
    missing: list[str] = []
    misfits: list[str] = []
    used: set[str] = set(layout.ignored) if layout else set()
    found: State = {}
    own = model.state_dict()
    for ours, target in own.items():
        names = layout.names(ours) if layout else (ours,)
        absent = [name for name in names if name not in state]
        if absent:
            if not (layout and ours in layout.optional):
                missing += absent
            continue
        used.update(names)
        parts = [state[name] for name in names]
        value = parts[0] if len(parts) == 1 else torch.cat(parts)
        if _core(value.shape) != _core(target.shape):
            misfits.append(f"{names[0]} is {list(value.shape)}, expected {list(target.shape)}")
        elif value.is_floating_point() != target.is_floating_point() or value.is_complex():
            misfits.append(f"{names[0]} holds {value.dtype}, expected {target.dtype}")
        else:
            found[ours] = value.reshape(target.shape)
    problems = [
        f"{len(names)} {kind}: {shortlist(names)}"
        for kind, names in (
            ("missing", missing),
            ("unexpected", sorted(set(state) - used)),
            ("misshapen", misfits),
        )
        if names
    ]
    if problems:
        raise RegroupError(f"{source}: does not fit the model; " + "; ".join(problems))
    ready = {name: value.to(own[name].dtype) for name, value in found.items()}
    require_finite(ready, source)
    _require_sense(ready, model.text.config.vocabulary, source)
    if model.logit_scale.is_meta:
        model.allocate()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in ready:
                tensor.copy_(ready[name])


def _require_sense(state: Mapping[str, Tensor], vocabulary: int, source: str) -> None:
    """Refuse finite values that no model can compute with."""
    bad = [
        name
        for name, tensor in state.items()
        if (name.endswith("running_var") and bool((tensor < 0).any()))
        or (name.endswith("logit_scale") and not float(tensor) < LARGEST_LOGIT_SCALE)
        or (name == "text.token_index" and not 0 <= int(tensor.min()) <= int(tensor.max()) < vocabulary)
    ]
    if bad:
        raise RegroupError(
            f"{source}: values that make no sense: {shortlist(bad)}; the file is damaged (no variance is "
            f"negative, no scale's logarithm is {LARGEST_LOGIT_SCALE:g} or more, and the vocabulary has "
            f"{vocabulary} rows)"
        )


def _core(shape: torch.Size) -> list[int]:
    """A shape without its axes of length one, which layouts add and drop."""
    return [size for size in shape if size != 1]


def export_state(model: GroupViT, layout: Layout) -> State:
    """The model's tensors under a layout's names and in its shapes.

    Raises:
        RegroupError: the model reads features of another network (`stage_two`), which only our layout holds.
    """
    if model.stage_two is not None:
        raise RegroupError(
            f"stage_two: the {layout.title} layout has no place for the network whose features feed the "
            "second stage; keep this checkpoint as a regroup folder"
        )
    state: State = {}
    for ours, tensor in model.state_dict().items():
        value = tensor.detach().cpu()
        names = layout.names(ours)
        if layout is HUGGING_FACE and ours == "multi_label_logit_scale":
            continue
        if ours.endswith("group_tokens") or ours == "image.positions":
            value = value[None]
        if layout.original and ours.endswith(("_projector.hidden.weight", "_projector.out.weight")):
            value = value[..., None]
        for name, part in zip(names, value.chunk(len(names)) if len(names) > 1 else [value], strict=True):
            state[name] = part.contiguous().clone()
    return state


def hugging_face_config(config: GroupViTConfig) -> dict[str, Any]:
    """The `config.json` of `transformers.GroupViTModel` for the same shape."""
    image, text = config.image, config.text
    tokens = [stage.group_tokens for stage in image.stages]
    return {
        "architectures": ["GroupViTModel"],
        "model_type": "groupvit",
        "projection_dim": config.joint_width,
        "projection_intermediate_dim": config.projector_hidden,
        "vision_config": {
            "model_type": "groupvit_vision_model",
            "hidden_size": image.width,
            "intermediate_size": int(image.width * image.mlp_ratio),
            "depths": [stage.depth for stage in image.stages],
            "num_hidden_layers": image.depth,
            "num_group_tokens": tokens,
            "num_output_groups": [*tokens[:-1], tokens[-2]],
            "num_attention_heads": image.heads,
            "image_size": image.image_size,
            "patch_size": image.patch_size,
            "assign_eps": image.assign_eps,
        },
        "text_config": {
            "model_type": "groupvit_text_model",
            "vocab_size": text.vocabulary,
            "hidden_size": text.width,
            "intermediate_size": 4 * text.width,
            "num_hidden_layers": text.depth,
            "num_attention_heads": text.heads,
            "max_position_embeddings": text.context,
        },
    }


def with_stage_two(model: GroupViT, features: DinoKeys) -> GroupViT:
    """The same weights with patch features of `features` as input of the second stage (section 5.14.2).

    The result's `encode_image` computes them itself, and `save_checkpoint` writes them with the model.

    Raises:
        RegroupError: the features are not as wide as the image tower's tokens, or there is no second
            grouping block.
    """
    try:
        config = replace(model.config, stage_two=features.config)
    except ValueError as error:
        raise RegroupError(f"{error}") from None
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("stage_two.")}
    state |= {f"stage_two.{name}": tensor for name, tensor in features.state_dict().items()}
    result = GroupViT(config, draw=False)
    fill(result, state, None, source="features")
    return result.train(model.training)
