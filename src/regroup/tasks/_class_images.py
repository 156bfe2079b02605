"""What the tasks on the source `classes` share: their options, features by class, and recall by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from regroup.settings import Pixels, Settings

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Bool, Float, Int
    from numpy.typing import NDArray
    from torch import Tensor

    from regroup.class_folders import ClassFolders
    from regroup.model import Backbone
    from regroup.tasks import Work

SOURCE = DATASET = "classes"


class ClassImages(Settings):
    """Pictures by class, and how the model is to see them."""

    names: Path | None = Field(
        default=None, description="file with the classes' words, from the project's root; null: see docs"
    )
    size: Pixels | None = Field(default=None, description="side of the images; null: the model's own")
    batch: int = Field(default=64, ge=1, le=65_536, description="images in a pass of the model")
    device: Literal["auto", "cpu", "cuda"] = "auto"

    def read(self, work: Work, split: str, per_class: int | None = None) -> ClassFolders:
        """The pictures of a split; errors as `read_class_folders`."""
        from regroup.class_folders import read_class_folders

        return read_class_folders(work.roots[SOURCE], split, names=self.names, per_class=per_class)

    def read_both(self, work: Work, per_class: int | None = None) -> tuple[ClassFolders, ClassFolders]:
        """Both splits, `per_class` of `train`; errors as `read_class_folders` and `check_same_classes`."""
        from regroup.class_folders import check_same_classes

        train, val = self.read(work, "train", per_class), self.read(work, "val")
        check_same_classes(train, val, work.roots[SOURCE])
        return train, val

    def features(self, model: Backbone, paths: Sequence[Path], work: Work) -> Float[Tensor, "n c"]:
        """Features as the model gives them; errors as `image_features`. The model moves to the device."""
        from regroup.device import choose_device
        from regroup.features import image_features

        model.to(choose_device(self.device))
        size = self.size or model.image_size
        return image_features(
            model, paths, size=size, batch=self.batch, store=work.features, progress=work.progress
        )


def sources(_: ClassImages) -> Iterable[str]:
    """The class folders."""
    return (SOURCE,)


def files(options: ClassImages) -> Iterable[Path]:
    """The list of words, where one is named."""
    return () if options.names is None else (options.names,)


def recall_by_class(
    hits: Bool[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: int
) -> NDArray[np.float64]:
    """Percent of each class's pictures that are hits; every class has one."""
    import numpy as np

    total = np.bincount(labels, minlength=classes)
    found: NDArray[np.float64] = 100 * np.bincount(labels, weights=hits, minlength=classes) / total
    return found
