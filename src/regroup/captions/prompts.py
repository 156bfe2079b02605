"""CLIP's prompt templates, as GroupViT uses them (method of section 4.1)."""

from __future__ import annotations

TRAINING_TEMPLATES = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""The seven templates one of which wraps each label in training (Radford et al. 2021)."""

INFERENCE_TEMPLATE = "a photo of a {}."
"""The template of class names in inference (section 4.4.1)."""


def prompt(label: str, template: int) -> str:
    """The label in training template number `template`; braces in a label are only text."""
    return TRAINING_TEMPLATES[template].replace("{}", label)


def class_prompt(name: str) -> str:
    """The class name in the inference template."""
    return INFERENCE_TEMPLATE.replace("{}", name)
