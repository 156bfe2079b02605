"""Kind `local`: a folder the user already has, used in place and never written to; layouts of all kinds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from regroup.errors import RegroupError
from regroup.sources.manifest import Manifest, describe
from regroup.sources.settings import SourceKind, SourceName


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


def describe_local(name: SourceName, root: Path | None, *, kind: SourceKind = "local") -> Manifest:
    """Check that `root` holds the unpacked archive of `name` and describe it.

    The manifest of a `local` folder has its absolute path; a download's may lie below the project, wherever
    that is.

    Raises:
        RegroupError: no root is set, it is no folder, or parts that are needed are missing or empty.
    """
    key = f"sources.{name}.root"
    if root is None:
        raise RegroupError(
            f"{key}: not set; kind `local` needs the folder that holds {LAYOUTS[name].required[0]}"
        )
    folder = root.expanduser().absolute() if kind == "local" else root.expanduser()
    if not folder.is_dir():
        raise RegroupError(
            f"{key}: no such folder {folder}; give the folder into which the archive was unpacked"
        )
    parts = present_parts(name, folder)
    missing = [part for part in LAYOUTS[name].required if part not in parts]
    if missing:
        raise RegroupError(
            f"{key}: {folder} has no {', '.join(missing)} (missing or empty); give the folder into which the"
            " archive was unpacked, in its own layout"
        )
    return describe(name, kind, folder, parts, in_place=True)
