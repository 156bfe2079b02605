"""How images and masks lie in a folder: a module each, named by `masks` of a protocol.

A module has

- `Options`: what a protocol may say of it under `masks`;
- `find(protocol, root, split) -> list[Sample]`: all images of a split below `root`, in their order, each with
  where its mask is; whether the files are there is looked at later, for those that are used;
- `read(sample, protocol, height, width) -> Ids`: a mask [H, W] of positions in the protocol's classes, and
  `protocol.ignored` where nothing is scored; height and width are those of the image, in pixels;
- perhaps `check(protocol)`: what it asks of the protocol as a whole, a `ValueError` if it is not so;
- perhaps `look(samples, protocol)`: a look at a few masks before any work, for what would be wrong with all.

Bad files are a `RegroupError` that names the file and the remedy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regroup.plugins import Room

LAYOUTS = Room("regroup.segmentation.layouts", "mask layout", ("find", "read"))


@dataclass(frozen=True)
class Sample:
    """One image of a dataset.

    Attributes:
        image: its file.
        mask: the file of its mask, or the one in which it is described.
        record: what the layout needs to know beyond that.
    """

    image: Path
    mask: Path
    record: Any = None
