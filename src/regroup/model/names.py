"""Parameter names: ours, the original code's and Hugging Face's.

Only the way from our names to the others is needed: the model at hand says which names to expect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from regroup.model.weights import Names

Pair = tuple[str, str]
"""A name in the original code and in Hugging Face's."""


class Group(NamedTuple):
    """Names that share a prefix; `{0}` and `{1}` are the stage's and block's numbers."""

    pattern: str
    original: str
    hugging_face: str
    parts: dict[str, Pair]


def _same(**parts: str) -> dict[str, Pair]:
    return {name.replace("__", "."): (foreign, foreign) for name, foreign in parts.items()}


GROUPS = (
    Group(
        r"image\.stages\.(\d+)\.blocks\.(\d+)\.",
        "img_encoder.layers.{0}.blocks.{1}.",
        "vision_model.encoder.stages.{0}.layers.{1}.",
        {
            "norm1": ("norm1", "layer_norm1"),
            "norm2": ("norm2", "layer_norm2"),
            "attention.qkv": ("attn.qkv", "self_attn.*_proj"),
            "attention.out": ("attn.proj", "self_attn.out_proj"),
            **_same(mlp__up="mlp.fc1", mlp__down="mlp.fc2"),
        },
    ),
    Group(
        r"image\.stages\.(\d+)\.grouping\.",
        "img_encoder.layers.{0}.downsample.",
        "vision_model.encoder.stages.{0}.downsample.",
        {
            **_same(norm_groups="norm_tokens", norm_tokens="norm_x", norm_mixed="norm_post_tokens"),
            **_same(mixer__mlp__up="mlp_inter.fc1", mixer__mlp__down="mlp_inter.fc2"),
            **_same(cross_attention__query="pre_assign_attn.attn.q_proj"),
            **_same(cross_attention__key="pre_assign_attn.attn.k_proj"),
            **_same(cross_attention__value="pre_assign_attn.attn.v_proj"),
            "cross_attention.out": ("pre_assign_attn.attn.proj", "pre_assign_attn.attn.out_proj"),
            **_same(norm_cross="pre_assign_attn.norm2", norm_post="pre_assign_attn.norm_post"),
            **_same(cross_mlp__up="pre_assign_attn.mlp.fc1", cross_mlp__down="pre_assign_attn.mlp.fc2"),
            **_same(assignment__query="assign.q_proj", assignment__key="assign.k_proj"),
            **_same(assignment__value="assign.v_proj", assignment__out="assign.proj"),
            **_same(norm_segments="norm_new_x"),
            **_same(channel_mlp__up="mlp_channels.fc1", channel_mlp__down="mlp_channels.fc2"),
        },
    ),
    Group(
        r"image\.stages\.(\d+)\.",
        "img_encoder.layers.{0}.",
        "vision_model.encoder.stages.{0}.",
        {
            **_same(group_tokens="group_token", carry__0="group_projector.0"),
            **_same(carry__1__mlp__up="group_projector.1.fc1", carry__1__mlp__down="group_projector.1.fc2"),
        },
    ),
    Group(
        r"image\.",
        "img_encoder.",
        "vision_model.",
        {
            "positions": ("pos_embed", "embeddings.position_embeddings"),
            "patch_embedding": ("patch_embed.proj", "embeddings.patch_embeddings.projection"),
            "patch_norm": ("patch_embed.norm", "embeddings.layernorm"),
            "norm": ("norm", "layernorm"),
        },
    ),
    Group(
        r"text\.blocks\.(\d+)\.",
        "text_encoder.transformer.resblocks.{0}.",
        "text_model.encoder.layers.{0}.",
        {
            "norm1": ("ln_1", "layer_norm1"),
            "norm2": ("ln_2", "layer_norm2"),
            "attention.qkv": ("attn.in_proj", "self_attn.*_proj"),
            "attention.out": ("attn.out_proj", "self_attn.out_proj"),
            "mlp.up": ("mlp.c_fc", "mlp.fc1"),
            "mlp.down": ("mlp.c_proj", "mlp.fc2"),
        },
    ),
    Group(
        r"text\.",
        "text_encoder.",
        "text_model.",
        {
            "token_embedding": ("token_embedding", "embeddings.token_embedding"),
            "positions": ("positional_embedding", "embeddings.position_embedding.weight"),
            "token_index": ("token_index", "embeddings.token_index"),
            "norm": ("ln_final", "final_layer_norm"),
        },
    ),
    Group(
        r"image_projector\.",
        "img_projector.",
        "visual_projection.",
        {"hidden": ("linear_hidden.0", "0"), "norm": ("linear_hidden.1", "1"), "out": ("linear_out", "3")},
    ),
    Group(
        r"text_projector\.",
        "text_projector.",
        "text_projection.",
        {"hidden": ("linear_hidden.0", "0"), "norm": ("linear_hidden.1", "1"), "out": ("linear_out", "3")},
    ),
    Group(r"", "", "", _same(logit_scale="logit_scale", multi_label_logit_scale="multi_label_logit_scale")),
)

_LEAF = re.compile(r"\.(weight|bias|running_mean|running_var|num_batches_tracked)$")


@dataclass(frozen=True)
class Layout:
    """One way to name and shape the tensors.

    Attributes:
        title: for messages.
        original: whether names are the original code's, else Hugging Face's.
        ignored: names in files that carry no weights.
        optional: our names that a file may lack; they keep their initial values.
    """

    title: str
    original: bool
    ignored: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset({"multi_label_logit_scale"})

    def names(self, ours: str) -> tuple[str, ...]:
        """Names of our tensor `ours` in this layout: one, or three where query, key and value are split."""
        leaf = _LEAF.search(ours)
        module, suffix = (ours[: leaf.start()], leaf.group()) if leaf else (ours, "")
        for group in GROUPS:
            match = re.match(group.pattern, module)
            if match is None or module[match.end() :] not in group.parts:
                continue
            prefix = (group.original if self.original else group.hugging_face).format(*match.groups())
            name = prefix + group.parts[module[match.end() :]][0 if self.original else 1]
            if name.endswith(".in_proj"):
                return (name + suffix.replace(".", "_"),)
            if "*" in name:
                return tuple(name.replace("*", part) + suffix for part in "qkv")
            return (name + suffix,)
        raise KeyError(ours)


ORIGINAL = Layout("original", original=True)
HUGGING_FACE = Layout(
    "Hugging Face", original=False, ignored=frozenset({"text_model.embeddings.position_ids"})
)

_SCALES = frozenset({"logit_scale", "multi_label_logit_scale"})
NAMES = {
    "original": Names(
        "img_encoder.pos_embed",
        frozenset({"img_encoder", "text_encoder", "img_projector", "text_projector"}) | _SCALES,
    ),
    "Hugging Face": Names(
        "vision_model.embeddings.position_embeddings",
        frozenset({"vision_model", "text_model", "visual_projection", "text_projection"}) | _SCALES,
    ),
    "regroup": Names(
        "image.positions",
        frozenset({"image", "text", "image_projector", "text_projector", "stage_two"}) | _SCALES,
    ),
}
"""How tensors of each layout are told, by its title; ours is the last."""
