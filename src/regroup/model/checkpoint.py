"""Checkpoints: our own folder, the original `.pth`, Hugging Face's files; nothing unpickled but tensors."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from regroup.errors import RegroupError
from regroup.io import read_json, write_bytes, write_json
from regroup.model.config import GroupViTConfig
from regroup.model.dino import DinoKeys
from regroup.model.groupvit import GroupViT
from regroup.model.infer import infer_config, overlay_hugging_face_config
from regroup.model.layers import resize_positions
from regroup.model.names import HUGGING_FACE, ORIGINAL, Layout
from regroup.model.weights import CONFIG, WEIGHTS, State, find_weights, read_content

__all__ = [
    "CONFIG",
    "WEIGHTS",
    "export_state",
    "fill",
    "find_weights",
    "hugging_face_config",
    "load_checkpoint",
    "read_state",
    "save_checkpoint",
    "save_hugging_face",
    "save_original",
    "with_image_size",
    "with_stage_two",
]


def load_checkpoint(
    path: Path, *, image_size: int | None = None, config: GroupViTConfig | None = None
) -> GroupViT:
    """Load a checkpoint of any of the three kinds, strictly.

    Args:
        path: our folder, a Hugging Face folder or file (`pytorch_model.bin`, `model.safetensors`), or an
            original `.pth`.
        image_size: resize the position embedding to this training size in pixels (section 5.9).
        config: shape of the model, for files that do not say it. By default it is read beside the weights or
            inferred from the tensors, with heads of 64 channels.

    Returns:
        The model, in evaluation mode on the CPU, in float32.

    Raises:
        RegroupError: the file cannot be read, or any tensor is missing, unexpected or misshapen; all are
            listed.
    """
    state, found, layout = read_state(path)
    config = config or found
    model = GroupViT(config, draw=False)
    fill(model, state, layout, source=str(path))
    if image_size is not None:
        model = with_image_size(model, image_size)
    return model.eval()


def save_checkpoint(model: GroupViT, folder: Path) -> None:
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


def read_state(path: Path) -> tuple[State, GroupViTConfig, Layout | None]:
    """Read tensors, configuration and layout (None: ours) of a checkpoint file or folder.

    Raises:
        RegroupError: the file is missing, is not a checkpoint, or holds anything but tensors and plain
            values.
    """
    file = find_weights(path)
    state, stored = read_content(file)
    beside = file.parent / CONFIG
    if "img_encoder.pos_embed" in state:
        if isinstance(stored, Mapping) and "image" in stored:
            return state, GroupViTConfig.from_dict(stored, source=f"{file}: config"), ORIGINAL
        return state, infer_config(state, ORIGINAL, source=str(file)), ORIGINAL
    if "vision_model.embeddings.position_embeddings" in state:
        config = infer_config(state, HUGGING_FACE, source=str(file))
        if beside.is_file():
            config = overlay_hugging_face_config(config, read_json(beside), source=str(beside))
        return state, config, HUGGING_FACE
    if "image.positions" in state:
        return state, GroupViTConfig.from_dict(read_json(beside), source=str(beside)), None
    raise RegroupError(
        f"{file}: none of the three known layouts; first names: {', '.join(sorted(state)[:3])}"
    )


def fill(model: GroupViT, state: Mapping[str, Tensor], layout: Layout | None, *, source: str) -> None:
    """Copy `state` into `model`; every difference is an error.

    Raises:
        RegroupError: lists all missing, unexpected and misshapen tensors.
    """
    missing: list[str] = []
    misshapen: list[str] = []
    used: set[str] = set(layout.ignored) if layout else set()
    ready: State = {}
    for ours, target in model.state_dict().items():
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
            misshapen.append(f"{names[0]} is {list(value.shape)}, expected {list(target.shape)}")
            continue
        ready[ours] = value.reshape(target.shape).to(target.dtype)
    problems = [
        f"{len(found)} {kind}: {', '.join(found)}"
        for kind, found in (
            ("missing", missing),
            ("unexpected", sorted(set(state) - used)),
            ("misshapen", misshapen),
        )
        if found
    ]
    if problems:
        raise RegroupError(f"{source}: does not fit the model; " + "; ".join(problems))
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name in ready:
                tensor.copy_(ready[name])


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


def with_image_size(model: GroupViT, image_size: int) -> GroupViT:
    """The same weights with the position embedding resized (bicubic) to another training size.

    Raises:
        RegroupError: `image_size` is not a multiple of the patch size.
    """
    try:
        config = replace(model.config, image=replace(model.config.image, image_size=image_size))
    except ValueError as error:
        raise RegroupError(f"{error}") from None
    if config == model.config:
        return model
    state = model.state_dict()
    grid = config.image.grid
    state["image.positions"] = resize_positions(state["image.positions"], grid, grid)
    resized = GroupViT(config, draw=False)
    fill(resized, state, None, source="resized model")
    return resized.train(model.training)


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
