"""The protocols' datasets as mmsegmentation datasets.

Registered in mmseg, so that `dict(type="ProtocolDataset", protocol="voc", data_root=..., pipeline=[...])`
works in an mmseg config once this module is imported.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from regroup.errors import RegroupError
from regroup.pictures import read_mask
from regroup.records import file_name_problem
from regroup.segmentation.images import read_image, scale_image
from regroup.segmentation.masks import InstanceFile, binary, from_instances, read_ids, values
from regroup.segmentation.mm import DATASETS, TRANSFORMS, BaseSegDataset, BaseTransform, PackSegInputs
from regroup.segmentation.protocols import IGNORED, Protocol, load_protocol
from regroup.segmentation.settings import InferenceParams

_OTHER_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_SAMPLE = 8
"""Masks that are looked into before any work."""


@TRANSFORMS.register_module()
class ReadImage(BaseTransform):  # type: ignore[misc]  # not typed
    """Reads `img_path` as blue, green, red [H, W, 3], mmseg's convention; errors as in `read_image`.

    The pixels stay as they are stored, whatever the file's orientation tag says, for so do the masks.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `img`, `img_shape` and `ori_shape`."""
        image = read_image(Path(results["img_path"]), upright=False)[..., ::-1]
        return {**results, "img": image, "img_shape": image.shape[:2], "ori_shape": image.shape[:2]}


@TRANSFORMS.register_module()
class ScaleShortSide(BaseTransform):  # type: ignore[misc]  # not typed
    """Scales `img`, not the mask, like mmseg's `Resize`, but however thin the image is."""

    def __init__(self, short_side: int = 448, long_side: int = 2048) -> None:
        """Set the sides, in pixels, as in `InferenceParams`."""
        self.params = InferenceParams(short_side=short_side, long_side=max(long_side, short_side))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace `img` and `img_shape`."""
        scaled = scale_image(np.ascontiguousarray(results["img"]), self.params)
        return {**results, "img": scaled, "img_shape": scaled.shape[:2], "pad_shape": scaled.shape[:2]}


@TRANSFORMS.register_module()
class ReadMask(BaseTransform):  # type: ignore[misc]  # not typed
    """Reads the mask of any protocol into `gt_seg_map`: class ids, and 255 where nothing is scored."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `gt_seg_map` [H, W] uint8.

        Raises:
            RegroupError: the mask is unreadable, has ids outside the class list, or not the image's size.
        """
        path, protocol = Path(results["seg_map_path"]), results["protocol"]
        height, width = results["ori_shape"]
        if protocol.masks == "instances":
            instances = results["instances"]
            if (instances["height"], instances["width"]) != (height, width):
                raise RegroupError(
                    f"{path}: {instances['file_name']} is said to be {instances['width']} x "
                    f"{instances['height']}, but {results['img_path']} is {width} x {height}"
                )
            mask = from_instances(instances["annotations"], instances["classes"], height, width)
        else:
            mask = read_ids(path, protocol)
        if mask.shape != (height, width):
            turned = mask.shape == (width, height)
            hint = "; masks lie on the pixels as stored, without the orientation tag" if turned else ""
            raise RegroupError(
                f"{path}: the mask is {mask.shape[1]} x {mask.shape[0]}, but {results['img_path']} is "
                f"{width} x {height}{hint}"
            )
        return {**results, "gt_seg_map": mask}


@DATASETS.register_module()
class ProtocolDataset(BaseSegDataset):  # type: ignore[misc]  # not typed
    """Images and masks of one protocol below a raw data root."""

    METAINFO: dict[str, Any] = {}  # noqa: RUF012 - the classes come from the protocol

    def __init__(
        self,
        protocol: Protocol | str,
        data_root: str | Path,
        split: str = "val",
        limit: int | None = None,
        pipeline: list[Any] | None = None,
        **settings: Any,
    ) -> None:
        """List the images.

        Args:
            protocol: a protocol or its name.
            data_root: the raw data's root; its layout is that of the dataset's own archive.
            split: `train` or `val`.
            limit: keep only the first so many images, in the order of the list file or of file names.
            pipeline: mmseg transforms; None: `evaluation_pipeline()`.
            settings: of `BaseSegDataset`.

        Raises:
            RegroupError: a folder, list, image or mask is missing.
        """
        self.protocol = load_protocol(protocol) if isinstance(protocol, str) else protocol
        self.split, self.limit, self.root = split, limit, Path(data_root)
        super().__init__(
            metainfo={"classes": self.protocol.classes},
            data_root=None,
            reduce_zero_label=self.protocol.reduce_zero_label,
            pipeline=evaluation_pipeline() if pipeline is None else pipeline,
            test_mode=True,
            # it would pickle the list to share it between worker processes
            serialize_data=False,
            **settings,
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry an image, checked to exist with its mask."""
        entries = self._instances() if self.protocol.masks == "instances" else self._pixel_masks()
        if self.protocol.masks != "instances":
            self._check_sample([Path(entry["seg_map_path"]) for entry in entries])
        entries = entries[: self.limit]
        if not entries:
            raise RegroupError(f"{self._path(self.protocol.images)}: no image of split {self.split}")
        for entry in entries:
            for key in ("img_path", "seg_map_path"):
                if not Path(entry[key]).is_file():
                    what = "image" if key == "img_path" else "mask"
                    raise RegroupError(f"{entry[key]}: no such {what} (protocol {self.protocol.name})")
            entry.update(
                protocol=self.protocol,
                label_map=None,
                reduce_zero_label=self.protocol.reduce_zero_label,
                seg_fields=[],
            )
        return entries

    def _path(self, pattern: str) -> Path:
        return self.protocol.path(self.root, pattern, self.split)

    def _check_sample(self, masks: list[Path]) -> None:
        """Look into a few of the masks, before any work, for what they all would have.

        Raises:
            RegroupError: all of them hold 0 and 255 alone.
        """
        some: list[Path] = []
        seen: set[int] = set()
        for path in masks[:: max(1, len(masks) // _SAMPLE)][:_SAMPLE]:
            with contextlib.suppress(RegroupError):  # it may not be among those that are scored
                seen.update(values(read_mask(path)))
                some.append(path)
        # a single map of COCO-Stuff may be of a person (0) and what has no label (255)
        enough = len(some) >= (1 if self.protocol.masks == "ids" else _SAMPLE // 2)
        if enough and seen == {0, IGNORED}:
            raise RegroupError(f"{some[0]} (and {len(some) - 1} others looked at): {binary(self.protocol)}")

    def _pixel_masks(self) -> list[dict[str, Any]]:
        images, labels = self._path(self.protocol.images), self._path(self.protocol.labels)
        for folder in (images, labels):
            if not folder.is_dir():
                raise RegroupError(
                    f"{folder}: no such folder (dataset {self.protocol.name}, split {self.split})"
                )
        if self.protocol.list is None:
            stems = _stems_of(images)
        else:
            listing = self._path(self.protocol.list)
            if not listing.is_file():
                raise RegroupError(f"{listing}: no such list of images")
            stems = _read_list(listing)
        return [
            {"img_path": str(images / f"{stem}.jpg"), "seg_map_path": str(labels / f"{stem}.png")}
            for stem in stems
        ]

    def _instances(self) -> list[dict[str, Any]]:
        images, path = self._path(self.protocol.images), self._path(self.protocol.labels)
        file = InstanceFile(path, self.protocol.classes)
        return [
            {
                "img_path": str(images / image.file_name),
                "seg_map_path": str(path),
                "instances": {
                    **image._asdict(),
                    "annotations": file.annotations[image.id],
                    "classes": file.classes,
                },
            }
            for image in file.images
        ]


def _stems_of(folder: Path) -> list[str]:
    """The stems of a folder's images, sorted.

    Raises:
        RegroupError: there are images that do not end in `.jpg`, as the archive's do: they would be left out.
    """
    others = sorted(path.name for path in folder.iterdir() if path.suffix != ".jpg")
    others = [name for name in others if Path(name).suffix.lower() in _OTHER_SUFFIXES]
    if others:
        raise RegroupError(
            f"{folder}: {len(others)} images do not end in .jpg and would not be scored ({others[0]});"
            " rename or remove them"
        )
    return sorted(path.stem for path in folder.glob("*.jpg"))


def _read_list(path: Path) -> list[str]:
    """The image stems of a list file, one a line.

    Raises:
        RegroupError: not a file of UTF-8 text, or a line that is no stem, or there twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RegroupError(f"{path}: not a list of images ({error})") from None
    stems: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        stem = line.strip()
        if not stem:
            continue
        if (problem := file_name_problem(stem)) is not None:
            raise RegroupError(f"{path}: line {number}: {problem}")
        if stem in stems:
            raise RegroupError(f"{path}: line {number}: {stem} is listed twice, first in line {stems[stem]}")
        stems[stem] = number
    return list(stems)


def evaluation_pipeline(params: InferenceParams | None = None) -> list[Any]:
    """The transforms of evaluation: read, scale, read the mask (unscaled), pack."""
    params = params or InferenceParams()
    return [ReadImage(), ScaleShortSide(params.short_side, params.long_side), ReadMask(), PackSegInputs()]
