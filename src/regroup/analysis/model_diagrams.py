"""Diagrams of the networks, with the sizes of a profile's own model: Figures 2, 4 and 5."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import torch

from regroup.drawing.diagram import Box, Diagram, Kind
from regroup.drawing.figures import Caption, Drawn
from regroup.model.config import GroupViTConfig

if TYPE_CHECKING:
    from regroup.model import Backbone

LEFT, RIGHT = 1.35, 5.45
"""Middles of the columns of the two towers."""
_FIRST, _STEP = 0.2, 0.56
"""Height of the first row, and from row to row."""


@torch.no_grad()
def trained_parts(before: Backbone, after: Backbone) -> frozenset[str]:
    """Which modules of a model training has changed, by the names of its parameters' modules.

    Every name stands for all that it begins: `image.stages.0.grouping` has `image`, `image.stages` and
    `image.stages.0` beside it. What only one of the two has, or in another shape (a position embedding that
    was resized), does not count.
    """
    old = dict(before.named_parameters())
    found: set[str] = set()
    for name, parameter in after.named_parameters():
        if name in old and old[name].shape == parameter.shape and not torch.equal(old[name], parameter):
            parts = name.split(".")
            found |= {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return frozenset(found)


def kind_of(trained: Collection[str], name: str) -> Kind:
    """How a module is drawn."""
    return "trained" if name in trained else "frozen"


def legend(variant: str) -> str:
    """What trained means in a diagram."""
    return f"Trained are the layers in which {variant} differs from the pretrained model."


def _blocks(count: int) -> str:
    return f"{count} transformer block{'s' if count > 1 else ''}"


def _drawn(diagram: Diagram, name: str, title: str, text: str, thesis: int, profile: str) -> Drawn:
    return Drawn(name, diagram.finish(), diagram.data, Caption(title, text, (thesis,), profile))


def block_diagram(config: GroupViTConfig, profile: str) -> Drawn:
    """A transformer block as both towers have it (Figure 2)."""
    image, text = config.image, config.text
    title = "A transformer block of either tower"
    note = (
        "Attention and an MLP, each behind a layer norm and with its input added (eq. 8 and 9). After the "
        "last block of a tower comes one more layer norm (eq. 10). The image tower has "
        f"{image.depth} blocks, in stages of {' + '.join(str(stage.depth) for stage in image.stages)}; the "
        f"text tower has {text.depth}."
    )
    diagram = Diagram(title, profile, 4.2, [note], {"frozen": "layers"})
    heading = f"image tower: {image.depth} blocks in {len(image.stages)} stages"
    hidden = int(image.width * image.mlp_ratio)
    columns = (
        (1.75, heading, image.width, image.heads, hidden, "GELU", ""),
        (5.25, f"text tower: {text.depth} blocks", text.width, text.heads, 4 * text.width, "CLIP's GELU",
         "; a token sees those before it"),
    )  # fmt: skip
    for x, heading, width, heads, hidden, activation, mask in columns:
        diagram.words(x, 0.05, heading, size=7, align="center")
        start = diagram.box(x, 0.42, f"tokens of {width} channels", "input")
        norm = diagram.box(x, 1.02, "layer norm", "frozen")
        attention = diagram.box(
            x, 1.52, f"self-attention, {heads} heads\nof {width // heads} channels{mask}", "frozen", width=2.3
        )
        first = diagram.plus(x, 1.98)
        norm2 = diagram.box(x, 2.5, "layer norm", "frozen")
        mlp = diagram.box(x, 3.0, f"MLP: {width} to {hidden} to {width}\n{activation} in between", "frozen")
        second = diagram.plus(x, 3.46)
        end = diagram.box(x, 3.95, f"tokens of {width} channels", "input")
        diagram.down([start, norm, attention, first, norm2, mlp, second, end])
        for above, below, plus in ((start, norm, first), (first, norm2, second)):
            y = (above.bottom[1] + below.top[1]) / 2
            diagram.arrow((x, y), (x - 1.45, y), (x - 1.45, plus.y), plus.left)
    return _drawn(diagram, "transformer-block", title, note, 2, profile)


def grouping_diagram(config: GroupViTConfig, trained: Collection[str], profile: str, variant: str) -> Drawn:
    """The layers of a grouping block (Figure 5)."""
    image = config.image
    width, hidden = image.width, int(image.width * image.mlp_ratio)
    sizes = ", ".join(
        f"block {number}: M = {tokens} tokens to G = {stage.group_tokens} segments"
        for number, (tokens, stage) in enumerate(
            zip([image.grid**2, *(s.group_tokens for s in image.stages)], image.stages[:-1], strict=False), 1
        )
    )
    title = "A grouping block"
    note = (
        f"Tokens have {width} channels. At {image.image_size} px: {sizes}. In training, Gumbel noise is "
        "added to the similarities; the one-hot assignment is used forwards, the gradient is that of the "
        "softmax (eq. 18). " + legend(variant)
    )
    diagram = Diagram(title, profile, 5.2, [note])

    def kind(part: str) -> Kind:
        return kind_of(trained, f"image.stages.0.grouping.{part}")

    groups = diagram.box(1.75, 0.2, "group tokens, G", "input")
    tokens = diagram.box(5.25, 0.2, "image tokens, M", "input")
    mixer = diagram.box(
        1.75, 0.75, f"layer norms, MLP over tokens\nG to {width // 2} to G", kind("mixer"), width=2.2
    )
    norm = diagram.box(5.25, 0.75, "layer norm", kind("norm_tokens"))
    cross = diagram.box(
        1.75, 1.3, f"cross-attention, {image.heads} heads,\nover the image tokens; input added",
        kind("cross_attention"), width=2.2,
    )  # fmt: skip
    mlp = diagram.box(
        1.75,
        1.85,
        f"layer norms, MLP, input added\n{width} to {hidden} to {width}",
        kind("cross_mlp"),
        width=2.2,
    )
    query = diagram.box(1.75, 2.4, "query, W_q", kind("assignment"), width=1.0)
    key = diagram.box(4.6, 2.4, "key, W_k", kind("assignment"), width=0.9)
    value = diagram.box(5.9, 2.4, "value, W_v", kind("assignment"), width=0.9)
    similarity = diagram.box(
        3.4, 2.95, f"similarities [G, M], over the square root of {width}", "operation", width=2.9, height=0.3
    )
    soft = diagram.box(
        3.4, 3.4, "softmax over groups: soft attention (eq. 17)", "operation", width=2.9, height=0.3
    )
    hard = diagram.box(
        3.4, 3.85, "largest group of each token: hard assignment (eq. 18)", "operation", width=2.9, height=0.3
    )
    mean = diagram.box(5.9, 3.85, "mean of each group's values, W_o", kind("assignment"), width=1.8)
    plus = diagram.plus(1.15, 4.3)
    last = diagram.box(
        1.15,
        4.9,
        f"layer norm, MLP, input added\n{width} to {4 * width} to {width}",
        kind("channel_mlp"),
        width=1.9,
    )
    end = diagram.box(3.4, 4.9, "segments, G (eq. 19)", "input", width=1.6)
    diagram.down([groups, mixer, cross, mlp, query])
    diagram.down([tokens, norm])
    diagram.arrow((norm.x, 1.3), cross.right)
    for box in (key, value):
        diagram.arrow(norm.bottom, (norm.x, 1.85), (box.x, 1.85), box.top)
    diagram.arrow(query.bottom, (query.x, similarity.y), similarity.left)
    diagram.arrow(key.bottom, (key.x, similarity.top[1]))
    diagram.down([similarity, soft, hard])
    diagram.down([value, mean])
    diagram.arrow(hard.right, mean.left)
    # the group tokens themselves are added, on the outside
    diagram.arrow((mlp.x, 2.12), (0.35, 2.12), (0.35, plus.y), plus.left)
    diagram.arrow(mean.bottom, (mean.x, plus.y), plus.right)
    diagram.down([plus, last])
    diagram.arrow(last.right, end.left)
    return _drawn(diagram, "grouping-block", title, note, 5, profile)


def architecture_diagram(
    config: GroupViTConfig, trained: Collection[str], profile: str, variant: str
) -> Drawn:
    """Both towers and the losses, from image and caption to the joint space (Figure 4)."""
    image = config.image
    title = "GroupViT, and how it is trained"
    note = (
        f"Sizes are the model's own, at {image.image_size} px. Group tokens are learned; behind the first "
        "stage what the stage before left of its own is mixed into them (eq. 20). " + legend(variant)
    )
    ends = _FIRST + (2 * len(image.stages) + 2) * _STEP
    diagram = Diagram(title, profile, ends + 1.3, [note])
    picture = _draw_image_tower(diagram, config, trained, ends)
    text = _draw_text_tower(diagram, config, trained, ends)
    y = ends + 1.0
    losses = (
        diagram.box(2.0, y, "contrastive loss (eq. 23 to 25)\nimage and caption", "loss", width=2.3),
        diagram.box(4.85, y, "multi-label loss (eq. 26 to 28)\nimage and its K labels", "loss", width=2.3),
    )
    for end, shift in ((picture, -0.12), (text, 0.12)):
        level = ends + 0.48 + shift
        for loss in losses:
            diagram.arrow(end.bottom, (end.x, level), (loss.x + shift, level), (loss.x + shift, loss.top[1]))
    return _drawn(diagram, "architecture", title, note, 4, profile)


def _draw_image_tower(diagram: Diagram, config: GroupViTConfig, trained: Collection[str], ends: float) -> Box:
    """The left column, from the image down to its projector at the height `ends`, which is given back."""
    image, wide = config.image, 2.3
    size = f"{image.patch_size} x {image.patch_size} px"
    patches = f"{image.grid**2} patches of {size}\nto {image.width} channels, positions (eq. 14)"
    embedding = kind_of(trained, "image.patch_embedding")
    flow = [
        diagram.box(LEFT, _FIRST, f"image, {image.image_size} x {image.image_size} px", "input"),
        diagram.box(LEFT, _FIRST + _STEP, patches, embedding, width=wide),
    ]
    above: Box | None = None
    length = image.grid**2
    for number, stage in enumerate(image.stages):
        y, name, count = _FIRST + (2 + 2 * number) * _STEP, f"image.stages.{number}", stage.group_tokens
        inputs = f"{length} + {count} tokens" if count else f"{length} segments"
        blocks = f"stage {number + 1}: {_blocks(stage.depth)}\n{inputs}"
        flow.append(diagram.box(LEFT, y, blocks, kind_of(trained, f"{name}.blocks"), width=wide))
        if not count:
            continue
        learned = kind_of(trained, f"{name}.group_tokens")
        side = diagram.box(3.25, y, f"{count} group\ntokens", learned, width=0.8)
        diagram.arrow(side.left, flow[-1].right)
        if above is not None:
            diagram.arrow(above.bottom, side.top)
            diagram.words(3.32, y - _STEP, "MLP over\ntokens")
        grouping = f"grouping block {number + 1}\n{length} tokens to {count} segments"
        flow.append(diagram.box(LEFT, y + _STEP, grouping, kind_of(trained, f"{name}.grouping"), width=wide))
        above, length = side, count
    projector = f"image projector\n{_projector(config, image.width)}"
    flow.append(diagram.box(LEFT, ends - _STEP, "mean of the segments (eq. 21)", "operation", width=wide))
    flow.append(diagram.box(LEFT, ends, projector, kind_of(trained, "image_projector"), width=wide))
    diagram.down(flow)
    return flow[-1]


def _draw_text_tower(diagram: Diagram, config: GroupViTConfig, trained: Collection[str], ends: float) -> Box:
    """The right column, as the left one."""
    text, wide = config.text, 2.5
    tokens = f"up to {text.context} tokens of {text.width} channels,\npositions"
    tower = (
        f"text tower: {_blocks(text.depth)}\n{text.width} channels, {text.heads} heads\n"
        "state at the end of the text"
    )
    projector = f"text projector (eq. 22)\n{_projector(config, text.width)}"
    middle = (_FIRST + _STEP + ends) / 2
    flow = [
        diagram.box(RIGHT, _FIRST, "caption, and K of its labels in prompts", "input", width=wide),
        diagram.box(RIGHT, _FIRST + _STEP, tokens, kind_of(trained, "text.token_embedding"), width=wide),
        diagram.box(RIGHT, middle, tower, kind_of(trained, "text.blocks"), width=wide, height=0.6),
        diagram.box(RIGHT, ends, projector, kind_of(trained, "text_projector"), width=wide),
    ]
    diagram.down(flow)
    return flow[-1]


def _projector(config: GroupViTConfig, width: int) -> str:
    return f"{width} to {config.projector_hidden} to {config.joint_width} channels"
