"""Text-supervised open-vocabulary segmentation with GroupViT, as a study anyone can rerun."""

__version__ = "0.1.0"
