"""The protocols' datasets as mmsegmentation datasets, for users of mmseg; our own evaluation does without.

Registered in mmseg, so that `dict(type="ProtocolDataset", protocol="voc", data_root=..., pipeline=[...])`
works in an mmseg config once this module is imported; `protocol` may be the path of a YAML file too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from regroup.segmentation.images import read_image, scale_image
from regroup.segmentation.mm import DATASETS, TRANSFORMS, BaseSegDataset, BaseTransform, PackSegInputs
from regroup.segmentation.protocols import Protocol, load_protocol
from regroup.segmentation.resolved import find_samples, read_sample_mask
from regroup.segmentation.settings import InferenceParams


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
    """Reads the mask of any protocol: class ids, and the dataset's `ignore_index` where nothing is scored."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add `gt_seg_map` [H, W], not scaled; errors as in `read_sample_mask`."""
        mask = read_sample_mask(results["sample"], results["protocol"], results["ori_shape"])
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
            protocol: a protocol, its name or the path of its file.
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
            reduce_zero_label=self._reduce_zero_label,
            ignore_index=self.protocol.ignored,
            pipeline=evaluation_pipeline() if pipeline is None else pipeline,
            test_mode=True,
            # it would pickle the list to share it between worker processes
            serialize_data=False,
            **settings,
        )

    @property
    def _reduce_zero_label(self) -> bool:
        return bool(getattr(self.protocol.masks.options, "reduce_zero_label", False))

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry an image, checked to exist with its mask."""
        return [
            {
                "img_path": str(sample.image),
                "seg_map_path": str(sample.mask),
                "sample": sample,
                "protocol": self.protocol,
                "label_map": None,
                "reduce_zero_label": self._reduce_zero_label,
                "seg_fields": [],
            }
            for sample in find_samples(self.protocol, self.root, self.split, self.limit)
        ]


def evaluation_pipeline(params: InferenceParams | None = None) -> list[Any]:
    """The transforms of evaluation: read, scale, read the mask (unscaled), pack."""
    params = params or InferenceParams()
    return [ReadImage(), ScaleShortSide(params.short_side, params.long_side), ReadMask(), PackSegInputs()]
