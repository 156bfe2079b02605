"""What each source's archive unpacks to: the parts that are needed, and those that are used if there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from regroup.sources.settings import SourceName


@dataclass(frozen=True)
class Layout:
    """Paths an unpacked archive has; `required` ones end the run where they are missing."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


_COCO = Layout(
    required=("annotations/captions_train2017.json", "train2017"),
    optional=(
        "annotations/captions_val2017.json",
        "annotations/instances_train2017.json",
        "annotations/instances_val2017.json",
        "stuffthingmaps/train2017",
        "stuffthingmaps/val2017",
        "val2017",
    ),
)
_VOC, _VOC2010 = "VOCdevkit/VOC2012", "VOCdevkit/VOC2010"
_ADE = "ADEChallengeData2016"

LAYOUTS: dict[SourceName, Layout] = {
    "coco": _COCO,
    "web": Layout(_COCO.required, ("annotations/classes.json", "stuffthingmaps/train2017")),
    "voc12": Layout(
        (f"{_VOC}/ImageSets/Segmentation/val.txt", f"{_VOC}/JPEGImages", f"{_VOC}/SegmentationClass"),
        (f"{_VOC}/ImageSets/Segmentation/train.txt",),
    ),
    "context": Layout(
        (
            f"{_VOC2010}/ImageSets/SegmentationContext/val.txt",
            f"{_VOC2010}/JPEGImages",
            f"{_VOC2010}/SegmentationClassContext",
        ),
        (f"{_VOC2010}/ImageSets/SegmentationContext/train.txt",),
    ),
    "ade": Layout(
        (f"{_ADE}/annotations/validation", f"{_ADE}/images/validation"),
        (f"{_ADE}/annotations/training", f"{_ADE}/images/training"),
    ),
}


def is_present(path: Path) -> bool:
    """Whether a file is there, or a folder with anything in it."""
    return any(path.iterdir()) if path.is_dir() else path.is_file()


def present_parts(name: SourceName, root: Path) -> tuple[str, ...]:
    """Parts of the layout that stand under `root`, required and optional."""
    layout = LAYOUTS[name]
    return tuple(part for part in (*layout.required, *layout.optional) if is_present(root / part))
