"""Writing figures: PNG, SVG, the data behind them and their captions, in the same bytes each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from regroup.drawing import style
from regroup.io import atomic_path, write_json


@dataclass(frozen=True)
class Caption:
    """What a figure shows, for the report: written beside it as JSON, with these keys.

    Attributes:
        title: a few words, without the profile's name.
        caption: one or more sentences: what is drawn, from what, and how to read it.
        thesis: numbers of the thesis's figures that it stands for; empty for one of our own.
        profile: where images and models are from.
    """

    title: str
    caption: str
    thesis: tuple[int, ...]
    profile: str


@dataclass(frozen=True, eq=False)
class Drawn:
    """A figure ready to be saved.

    Attributes:
        name: of its files, without suffix.
        figure: the drawing.
        data: the arrays it was drawn from.
        caption: what it shows.
    """

    name: str
    figure: Figure
    data: Mapping[str, NDArray[Any]]
    caption: Caption

    def save(self, folder: Path) -> list[Path]:
        """Write it into a folder; return the paths."""
        return save_figure(self.figure, folder / self.name, self.data, caption=self.caption)


def save_figure(
    figure: Figure, stem: Path, data: Mapping[str, NDArray[Any]], *, caption: Caption | None = None
) -> list[Path]:
    """Write `stem`.png, .svg and .npz, and with a caption also .json; return their paths in this order.

    No date, host or library version is written. The archive holds `data`, sorted by name.

    Raises:
        ValueError: an array of Python objects, which could only be stored by pickling.
    """
    if objects := sorted(name for name, array in data.items() if np.asarray(array).dtype.hasobject):
        raise ValueError(f"arrays of objects cannot be stored: {', '.join(objects)}")
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg", ".npz")]
    png, svg, npz = paths
    with style.settings():
        with atomic_path(png) as file:
            figure.savefig(file, format="png", dpi=style.DPI, metadata={"Software": None})
        with atomic_path(svg) as file:
            none = {"Date": None, "Creator": None, "Format": None, "Type": None}
            figure.savefig(file, format="svg", dpi=style.SVG_DPI, metadata=none)
    with atomic_path(npz) as file, file.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **{name: data[name] for name in sorted(data)})
    if caption is not None:
        paths.append(stem.with_name(stem.name + ".json"))
        write_json(paths[-1], asdict(caption))
    return paths
