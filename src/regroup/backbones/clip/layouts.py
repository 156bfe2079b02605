"""Names of CLIP's tensors: ours, Hugging Face's and OpenAI's, and the sizes that follow from them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from regroup.backbones.clip.config import ClipConfig, ClipImageConfig
from regroup.backbones.clip.network import Clip
from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.model.checkpoint import fill
from regroup.model.config import TextConfig
from regroup.model.weights import CONFIG, Names, State, Weights

HEAD_CHANNELS = 64
"""Channels of an attention head in all published CLIP weights; tensors do not show it."""

_NO_WEIGHTS = frozenset({"input_resolution", "context_length", "vocab_size", "attn_mask"})
"""Names in OpenAI's files that are no weights."""

OURS = Names(
    "image.class_token",
    frozenset(
        {"image", "text", "image_projector", "text_projector", "logit_scale", "multi_label_logit_scale"}
    ),
)
HUGGING_FACE = Names(
    "vision_model.embeddings.class_embedding",
    frozenset({"vision_model", "text_model", "visual_projection", "text_projection", "logit_scale"}),
)
OPENAI = Names(
    "visual.class_embedding",
    frozenset(
        {"visual", "transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection"}
        | {"logit_scale", *_NO_WEIGHTS}
    ),
)
NAMES = (OURS, HUGGING_FACE, OPENAI)
"""How tensors of each layout are told."""

_BLOCK = (
    ("norm1", "layer_norm1", "ln_1"),
    ("norm2", "layer_norm2", "ln_2"),
    ("attention.out", "self_attn.out_proj", "attn.out_proj"),
    ("mlp.up", "mlp.fc1", "mlp.c_fc"),
    ("mlp.down", "mlp.fc2", "mlp.c_proj"),
)
"""Modules of a block: ours, Hugging Face's, OpenAI's."""

_PLAIN = (
    ("image.patch_embedding.weight", "vision_model.embeddings.patch_embedding.weight", "visual.conv1.weight"),
    ("image.class_token", HUGGING_FACE.anchor, OPENAI.anchor),
    (
        "image.positions",
        "vision_model.embeddings.position_embedding.weight",
        "visual.positional_embedding",
    ),
    ("image.norm_first.*", "vision_model.pre_layrnorm.*", "visual.ln_pre.*"),
    ("image.norm.*", "vision_model.post_layernorm.*", "visual.ln_post.*"),
    ("text.token_embedding.weight", "text_model.embeddings.token_embedding.weight", "token_embedding.weight"),
    ("text.positions", "text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text.norm.*", "text_model.final_layer_norm.*", "ln_final.*"),
    ("image_projector.weight", "visual_projection.weight", "visual.proj"),
    ("text_projector.weight", "text_projection.weight", "text_projection"),
    ("logit_scale", "logit_scale", "logit_scale"),
)
"""Everything else; `*` stands for weight and bias."""

_IGNORED = _NO_WEIGHTS | {
    "vision_model.embeddings.position_ids",
    "text_model.embeddings.position_ids",
}
"""Names in files that carry no weights."""

_BLOCKS = {
    HUGGING_FACE: {"image": "vision_model.encoder.layers.", "text": "text_model.encoder.layers."},
    OPENAI: {"image": "visual.transformer.resblocks.", "text": "transformer.resblocks."},
}


def to_ours(state: Mapping[str, torch.Tensor], names: Names) -> State:
    """Tensors under our names and in our shapes; what has no place keeps its name.

    The multi-label scale, which no CLIP has, starts from its contrastive scale.
    """
    if names is OURS:
        return dict(state)
    column = 1 if names is HUGGING_FACE else 2
    single = {
        row[column].replace("*", leaf): row[0].replace("*", leaf)
        for row in _PLAIN
        for leaf in ("weight", "bias")
    }
    found: State = {}
    split: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in state.items():
        if name in _IGNORED:
            continue
        if name in single:
            # OpenAI multiplies by its projections from the right
            turned = names is OPENAI and name in ("visual.proj", "text_projection") and tensor.ndim == 2
            found[single[name]] = tensor.T if turned else tensor
        elif (place := _in_block(name, names)) is None:
            found[name] = tensor
        else:
            ours, part = place
            if part is None:
                found[ours] = tensor
            else:
                split.setdefault(ours, {})[part] = tensor
    for ours, parts in split.items():
        if parts.keys() == {"q", "k", "v"}:
            found[ours] = torch.cat([parts[part] for part in "qkv"])
        else:
            found |= {f"{ours} ({part} of q, k, v)": tensor for part, tensor in parts.items()}
    if "logit_scale" in found:
        found["multi_label_logit_scale"] = found["logit_scale"].clone()
    return found


def _in_block(name: str, names: Names) -> tuple[str, str | None] | None:
    """Our name of a block's tensor and, where it is one of q, k and v alone, which; None for other names."""
    for tower, prefix in _BLOCKS[names].items():
        match = re.fullmatch(re.escape(prefix) + r"(\d+)\.(.+)[._](weight|bias)", name)
        if match is None:
            continue
        number, module, leaf = match.groups()
        ours = f"{tower}.blocks.{number}."
        if names is OPENAI and module == "attn.in_proj":
            return f"{ours}attention.qkv.{leaf}", None
        if names is HUGGING_FACE and (part := re.fullmatch(r"self_attn\.([qkv])_proj", module)):
            return f"{ours}attention.qkv.{leaf}", part[1]
        for row in _BLOCK:
            if row[1 if names is HUGGING_FACE else 2] == module:
                return f"{ours}{row[0]}.{leaf}", None
    return None


def infer_config(state: Mapping[str, torch.Tensor], *, source: str) -> ClipConfig:
    """Sizes from tensors under our names; heads have 64 channels, the activation is OpenAI's.

    Raises:
        RegroupError: tensors that the sizes follow from are missing, or contradict each other.
    """

    def shape(name: str) -> list[int]:
        if name not in state:
            raise RegroupError(f"{source}: {name} is missing, so the model's sizes are unknown")
        return list(state[name].shape)

    def depth(tower: str) -> int:
        places = (re.match(rf"{tower}\.blocks\.(\d+)\.", name) for name in state)
        return max((int(place[1]) + 1 for place in places if place), default=0)

    try:
        width, _, patch, _ = shape("image.patch_embedding.weight")
        vocabulary, text_width = shape("text.token_embedding.weight")
        return ClipConfig(
            ClipImageConfig(
                image_size=round((shape("image.positions")[0] - 1) ** 0.5) * patch,
                patch_size=patch,
                width=width,
                heads=max(1, width // HEAD_CHANNELS),
                depth=depth("image"),
            ),
            TextConfig(
                vocabulary=vocabulary,
                context=shape("text.positions")[0],
                width=text_width,
                depth=depth("text"),
                heads=max(1, text_width // HEAD_CHANNELS),
            ),
            joint_width=shape("image_projector.weight")[0],
        )
    except (ValueError, IndexError, TypeError) as error:
        raise RegroupError(f"{source}: no CLIP follows from its tensors: {error}") from None


def overlay(config: ClipConfig, value: object, *, source: str) -> ClipConfig:
    """Take from Hugging Face's `config.json` what tensors do not show: heads and the activation.

    Raises:
        RegroupError: an activation that no CLIP has, or two of them, or another epsilon.
    """
    value = value if isinstance(value, dict) else {}
    image, text = (
        part if isinstance(part, dict) else {}
        for part in (value.get("vision_config"), value.get("text_config"))
    )
    activations = {str(part.get("hidden_act", "quick_gelu")) for part in (image, text)}
    if len(activations) > 1 or not activations <= {"quick_gelu", "gelu"}:
        raise RegroupError(
            f"{source}: hidden_act: {', '.join(sorted(activations))}: both towers must have "
            "quick_gelu, or both gelu"
        )
    for part in (image, text):
        if part.get("layer_norm_eps", 1e-5) != 1e-5:
            raise RegroupError(f"{source}: layer_norm_eps: {part['layer_norm_eps']} is not CLIP's 1e-5")
    try:
        return replace(
            config,
            image=replace(config.image, heads=int(image.get("num_attention_heads", config.image.heads))),
            text=replace(config.text, heads=int(text.get("num_attention_heads", config.text.heads))),
            activation="quick_gelu" if activations == {"quick_gelu"} else "gelu",
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise RegroupError(f"{source}: {error}") from None


@dataclass(frozen=True)
class ClipCheckpoint:
    """A checkpoint as it was read: its tensors under our names, and the sizes of their model."""

    weights: Weights
    state: State
    config: ClipConfig
    title: str

    @classmethod
    def of(cls, weights: Weights) -> ClipCheckpoint:
        """Sizes from `config.json`, or from the tensors.

        Raises:
            RegroupError: they are missing or absurd.
        """
        beside, file = weights.file.parent / CONFIG, str(weights.file)
        if weights.names is OURS:
            config = ClipConfig.from_dict(read_json(beside), source=str(beside))
            return cls(weights, weights.state, config, "regroup")
        state = to_ours(weights.state, weights.names)
        config = infer_config(state, source=file)
        if weights.names is OPENAI:
            return cls(weights, state, config, "OpenAI")
        if beside.is_file():
            config = overlay(config, read_json(beside), source=str(beside))
        return cls(weights, state, config, "Hugging Face")

    def model(self) -> Clip:
        """The model, in evaluation mode on the CPU, in float32.

        Raises:
            RegroupError: any tensor is missing, unexpected, misshapen or not finite; all are listed.
        """
        model = Clip(self.config, draw=False, storage=False)
        fill(model, self.state, None, source=str(self.weights.file))
        return model.eval()
