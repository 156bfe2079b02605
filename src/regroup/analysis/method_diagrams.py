"""Diagrams of what is done with networks: self-distillation, inference, penalties (Figures 3, 8, 11)."""

from __future__ import annotations

from collections.abc import Collection

from regroup.analysis.model_diagrams import kind_of, legend
from regroup.captions.prompts import INFERENCE_TEMPLATE
from regroup.drawing.diagram import Diagram, Kind
from regroup.drawing.figures import Caption, Drawn
from regroup.model.config import DinoConfig, GroupViTConfig
from regroup.segmentation.settings import InferenceParams


def teacher_diagram(config: DinoConfig, profile: str) -> Drawn:
    """How self-supervised features come about, and what is read of them (Figure 3)."""
    published = config.kind == "published"
    title = "Self-distillation, and the features that are read" if published else (
        "Self-distillation of the stand-in for DINO, and the features that are read"
    )  # fmt: skip
    views = "random crops of one image" if published else "one crop of an image in two lights"
    own = (
        "Of several crops the teacher sees the large ones alone. "
        if published
        else "Here images are the profile's own, and patches are distilled like the class token. "
    )
    note = (
        "The student learns to say of one view what the teacher says of another (eq. 11 and 12); the teacher "
        "is the moving average of the student (eq. 13) and learns nothing by itself. "
        f"{own}Read are the keys of one attention layer: at {config.image_size} px {config.grid**2} vectors "
        f"of {config.width} channels."
    )
    meanings: dict[Kind, str] = {"trained": "learned by gradient", "frozen": "not learned by gradient"}
    diagram = Diagram(title, profile, 3.55, [note], meanings)
    image = diagram.box(2.3, 0.2, f"two views: {views}", "input", width=2.6)
    size = f"{config.patch_size} x {config.patch_size} px"
    network = f"patches of {size},\n{config.width} channels, {config.heads} heads"
    student = diagram.box(1.2, 0.95, f"student\n{network}", "trained", height=0.55)
    teacher = diagram.box(3.4, 0.95, f"teacher\n{network}", "frozen", height=0.55)
    head = diagram.box(1.2, 1.65, "head, to scores of K classes", "trained")
    head2 = diagram.box(3.4, 1.65, "head, to scores of K classes", "frozen")
    soft = diagram.box(1.2, 2.35, "softmax at a temperature", "operation")
    soft2 = diagram.box(3.4, 2.35, "less their running mean,\nsharper softmax", "operation")
    loss = diagram.box(2.3, 3.2, "cross-entropy (eq. 11, 12)", "loss")
    for end in (student, teacher):
        diagram.arrow(image.bottom, (image.x, 0.53), (end.x, 0.53), end.top)
    diagram.down([student, head, soft])
    diagram.down([teacher, head2, soft2])
    diagram.arrow(soft.bottom, (soft.x, loss.y), loss.left)
    diagram.arrow(soft2.bottom, (soft2.x, loss.y), loss.right)
    diagram.words(3.48, 2.9, "no gradient")
    diagram.arrow(student.right, teacher.left, dashed=True)
    diagram.words(2.3, 1.32, "moving\naverage", align="center")
    keys = diagram.box(5.8, 0.95, f"keys of block {config.layer},\ncounted from 0", "frozen", height=0.55)
    affinity = diagram.box(5.8, 1.65, "cosines of patches", "operation")
    distilled = diagram.box(5.8, 2.35, "distillation loss (eq. 54)", "loss")
    stage = diagram.box(
        5.8, 3.2, "input of stage 2 in place of the\nfirst segments (section 5.14.2)", "operation", width=2.1
    )
    diagram.arrow(teacher.right, keys.left)
    diagram.down([keys, affinity, distilled])
    diagram.arrow(keys.right, (6.93, keys.y), (6.93, stage.y), stage.right)
    return Drawn("self-distillation", diagram.finish(), diagram.data, Caption(title, note, (3,), profile))


def inference_diagram(config: GroupViTConfig, params: InferenceParams, profile: str) -> Drawn:
    """From an image and the names of classes to a label for every pixel (Figure 8).

    Args:
        config: sizes of the model.
        params: windows, and how many classes a window may have.
        profile: the profile's name.
    """
    side = max(params.window // config.patch_size, 1)
    patches, groups, joint = side**2, config.image.stages[-2].group_tokens, config.joint_width
    title = "From an image and class names to labels of pixels"
    note = (
        f"Sizes are those of a window of {params.window} px. Windows are {params.stride} px apart; where "
        "they overlap, a pixel's class scores are averaged. A segment whose best score is below the "
        "dataset's threshold is background, but for the surest of its window (eq. 37)."
    )
    diagram = Diagram(title, profile, 5.2, [note], {"frozen": "layers"})
    image = diagram.box(
        1.6, 0.2, f"windows of the image, {params.window} x {params.window} px", "input", width=2.4
    )
    names = diagram.box(5.3, 0.2, f"N class names: “{INFERENCE_TEMPLATE.format('dog')}”", "input", width=2.5)
    tower = diagram.box(1.6, 0.8, "image tower", "frozen")
    texts = diagram.box(5.3, 0.8, "text tower and projector", "frozen")
    chain = " x ".join(f"A{number}" for number in range(len(config.image.stages) - 1, 0, -1))
    attention = diagram.box(
        0.95,
        1.75,
        f"attention of all stages\n{chain} = [{groups}, {patches}] (eq. 34)",
        "operation",
        width=1.75,
    )
    projector = diagram.box(2.85, 1.4, "image projector", "frozen", width=1.3)
    segments = diagram.box(
        2.85,
        2.05,
        f"{groups} segments, and their\nmean: vectors of {joint} (eq. 29)",
        "operation",
        width=1.75,
    )
    whole = diagram.box(
        6.05, 2.75, f"mean and classes [1, N]:\nthe best {params.top_k} (eq. 31, 32)", "operation", width=1.75
    )
    each = diagram.box(3.95, 2.75, f"segments and classes\n[{groups}, N] (eq. 30)", "operation", width=1.75)
    scores = diagram.box(
        4.95,
        3.5,
        f"softmax over all classes, times that over\nthe window's {params.top_k}: [{groups}, N] (eq. 33)",
        "operation",
        width=2.4,
    )
    masks = diagram.box(
        0.95, 3.5, "enlarged bilinearly,\nthe largest segment (eq. 35)", "operation", width=1.75
    )
    labels = diagram.box(
        3.0,
        4.25,
        "every pixel gets its segment's scores (eq. 36);\nmean of the windows",
        "operation",
        width=2.7,
    )
    end = diagram.box(3.0, 4.9, "label of each pixel, or background (eq. 37)", "input", width=2.7)
    diagram.down([image, tower])
    diagram.down([names, texts])
    diagram.arrow(tower.bottom, (tower.x, 1.15), (attention.x, 1.15), attention.top)
    diagram.arrow(tower.bottom, (tower.x, 1.08), (projector.x, 1.08), projector.top)
    diagram.down([projector, segments])
    diagram.down([attention, masks])
    for box in (each, whole):
        diagram.arrow(texts.bottom, (texts.x, 2.3), (box.x + 0.2, 2.3), (box.x + 0.2, box.top[1]))
        diagram.arrow(segments.bottom, (segments.x, 2.42), (box.x - 0.2, 2.42), (box.x - 0.2, box.top[1]))
        diagram.arrow(box.bottom, (box.x, 3.12), (scores.x + (box.x - scores.x) / 2, 3.12),
                      (scores.x + (box.x - scores.x) / 2, scores.top[1]))  # fmt: skip
    diagram.arrow(masks.bottom, (masks.x, labels.y), labels.left)
    diagram.arrow(scores.bottom, (scores.x, labels.y), labels.right)
    diagram.down([labels, end])
    caption = Caption(title, note, (8,), profile)
    return Drawn("inference", diagram.finish(), diagram.data, caption)


def entropy_diagram(config: GroupViTConfig, trained: Collection[str], profile: str, variant: str) -> Drawn:
    """Where the three entropies of section 4.5 are taken (Figure 11)."""
    image, joint = config.image, config.joint_width
    groups, patches = image.stages[-2].group_tokens, image.grid**2
    title = "The entropy penalties of training"
    note = (
        f"Sizes are those of an image of {image.image_size} px with K labels. Each penalty is a mean over "
        "the batch and is added to the losses; a run has one of them or several. " + legend(variant)
    )
    diagram = Diagram(title, profile, 4.95, [note])
    pixels = diagram.box(1.5, 0.2, f"image, {image.image_size} x {image.image_size} px", "input")
    words = diagram.box(5.3, 0.2, "K labels of the caption", "input")
    stages = [f"image.stages.{number}" for number in range(len(image.stages))]
    grouping = any(f"{stage}.grouping" in trained for stage in stages)
    alone = grouping and not any(f"{stage}.blocks" in trained for stage in stages)
    words_of_tower = "image tower, of which only\ngrouping blocks are trained" if alone else "image tower"
    tower = diagram.box(1.5, 0.8, words_of_tower, "trained" if grouping else "frozen")
    projector = diagram.box(2.9, 1.45, "image projector", kind_of(trained, "image_projector"), width=1.4)
    texts = diagram.box(5.3, 0.8, "text tower and projector", kind_of(trained, "text_projector"), width=1.9)
    attention = diagram.box(
        0.95, 2.1, f"attention of all stages\n[{groups}, {patches}] (eq. 34)", "operation", width=1.65
    )
    segments = diagram.box(2.9, 2.1, f"{groups} segments,\nvectors of {joint}", "operation", width=1.5)
    affinity = diagram.box(4.7, 2.75, f"segments and labels\n[{groups}, K] (eq. 30)", "operation", width=1.7)
    softmax = diagram.box(2.9, 3.45, "softmax over labels", "operation", width=1.4)
    both = diagram.box(5.9, 3.45, "softmax over labels,\nand over segments", "operation", width=1.5)
    patch = diagram.box(2.9, 4.05, f"patches and labels\n[{patches}, K] (eq. 41)", "operation", width=1.5)
    ge = diagram.box(0.95, 4.7, "GE: entropy over groups\n(eq. 38, 39)", "loss", width=1.7)
    le = diagram.box(2.9, 4.7, "LE: entropy over labels\n(eq. 42, 43)", "loss", width=1.7)
    se = diagram.box(5.9, 4.7, "SE: 0.2 and 0.1 of the two\nentropies (eq. 44 to 46)", "loss", width=1.8)
    diagram.down([pixels, tower])
    diagram.down([words, texts])
    diagram.arrow(tower.bottom, (tower.x, 1.14), (attention.x, 1.14), attention.top)
    diagram.arrow(tower.bottom, (tower.x, 1.14), (projector.x, 1.14), projector.top)
    diagram.down([projector, segments])
    diagram.arrow(segments.bottom, (segments.x, affinity.y), affinity.left)
    diagram.arrow(texts.bottom, (texts.x, affinity.top[1]))
    diagram.arrow(affinity.bottom, (affinity.x, 3.1), (both.x, 3.1), both.top)
    diagram.arrow(affinity.bottom, (affinity.x, 3.1), (softmax.x, 3.1), softmax.top)
    diagram.down([softmax, patch])
    diagram.down([attention, ge])
    diagram.arrow((attention.x, patch.y), patch.left)
    diagram.down([patch, le])
    diagram.down([both, se])
    caption = Caption(title, note, (11,), profile)
    return Drawn("entropy-penalties", diagram.finish(), diagram.data, caption)
