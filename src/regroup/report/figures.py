"""Writing figures: PNG, SVG and the data they were drawn from, in the same bytes each time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from regroup.io import atomic_path
from regroup.report import style


def save_figure(figure: Figure, stem: Path, data: Mapping[str, NDArray[Any]]) -> list[Path]:
    """Write `stem`.png, `stem`.svg and `stem`.npz; return their paths.

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
            figure.savefig(file, format="svg", dpi=style.DPI, metadata=none)
    with atomic_path(npz) as file, file.open("wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **{name: data[name] for name in sorted(data)})
    return paths
