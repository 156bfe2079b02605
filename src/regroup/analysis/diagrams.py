"""Every diagram of a profile, with the sizes and the trained layers of its own models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from regroup.analysis.method_diagrams import entropy_diagram, inference_diagram, teacher_diagram
from regroup.analysis.model_diagrams import (
    architecture_diagram,
    block_diagram,
    grouping_diagram,
    trained_parts,
)
from regroup.analysis.settings import FigureParams
from regroup.drawing.figures import Drawn
from regroup.model import GroupViTConfig
from regroup.model.config import DinoConfig
from regroup.segmentation.settings import InferenceParams

if TYPE_CHECKING:
    from regroup.model import Backbone


def diagrams(
    models: Mapping[str, Backbone],
    figures: FigureParams,
    inference: InferenceParams,
    dino: DinoConfig,
    profile: str,
) -> Iterator[Drawn]:
    """Figures 2 to 5, 8 and 11; of these only 3 where the pretrained model is no GroupViT.

    Args:
        models: by the names of variants.
        figures: which variants play which part.
        inference: windows, and how many classes one may have.
        dino: sizes of the self-supervised network.
        profile: the profile's name.
    """
    yield teacher_diagram(dino, profile)
    pretrained = models[figures.pretrained]
    if not isinstance(pretrained.config, GroupViTConfig):
        return
    config, tuned, group_entropy = pretrained.config, figures.fine_tuned, figures.group_entropy
    trained = {name: trained_parts(pretrained, models[name]) for name in (tuned, group_entropy)}
    yield block_diagram(config, profile)
    yield architecture_diagram(config, trained[tuned], profile, tuned)
    yield grouping_diagram(config, trained[tuned], profile, tuned)
    yield inference_diagram(config, inference, profile)
    yield entropy_diagram(config, trained[group_entropy], profile, group_entropy)
