"""The figures below a report's folder, as images that live inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from regroup.errors import RegroupError
from regroup.io import read_json
from regroup.pictures import picture_size, read_picture
from regroup.report.settings import PageParams

WIDEST = 2000
"""Pixels; wider pictures are scaled down in the page."""


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        id: for links in the page.
        title: heading.
        caption: what it shows.
        thesis: numbers of the thesis's figures that it is the counterpart of.
        path: the PNG file, from the report's folder.
        formats: suffixes of the files beside it: png, svg, npz.
        data: the image as a data URI.
        width: of the image in the page, in pixels.
        height: likewise.
    """

    id: str
    title: str
    caption: str
    thesis: tuple[int, ...]
    path: str
    formats: tuple[str, ...]
    data: str
    width: int
    height: int


TABLES = "table_data"
"""The folder whose pictures stand beside their tables, not among the figures."""


def read_pictures(report: Path, settings: PageParams) -> list[Picture]:
    """Every PNG in the folders of a report but those of tables, in the order of the thesis, then by path.

    `NAME.json` beside `NAME.png` gives `title`, `caption` and `thesis` (numbers of figures); without it, the
    file's name is the title. Large ones go into the page as WebP, which is a fraction of a PNG.

    Raises:
        RegroupError: a sidecar that is not of this form, or a picture that cannot be read.
    """
    paths = [path for path in sorted(report.glob("*/**/*.png")) if path.parent != report / TABLES]
    pictures = [_read(path, report, settings) for path in paths]
    return sorted(pictures, key=lambda picture: (picture.thesis or (1000,), picture.path))


def table_picture(table: Path, title: str, report: Path, settings: PageParams) -> Picture | None:
    """The figure that lies beside the file `table<NN>.json` of a table; None where it has none.

    Raises:
        RegroupError: a picture that cannot be read.
    """
    path = table.with_suffix(".png")
    return _read(path, report, settings, {"title": title}) if path.is_file() else None


def _read(path: Path, report: Path, settings: PageParams, about: Any = None) -> Picture:
    sidecar = path.with_suffix(".json")
    if about is None:
        about = read_json(sidecar) if sidecar.is_file() else {}
    try:
        title = str(about.get("title") or path.stem.replace("_", " ").replace("-", " ").capitalize())
        caption = str(about.get("caption") or "")
        thesis = tuple(int(number) for number in about.get("thesis") or ())
    except (AttributeError, TypeError, ValueError) as error:
        raise RegroupError(
            f'{sidecar}: not of the form {{"title": text, "caption": text, "thesis": [numbers]}} ({error})'
        ) from None
    name = path.relative_to(report)
    formats = [suffix for suffix in ("png", "svg", "npz") if path.with_suffix(f".{suffix}").is_file()]
    data, size = _embed(path, settings)
    anchor = "figure-" + "-".join(name.with_suffix("").parts)
    return Picture(anchor, title, caption, thesis, name.as_posix(), tuple(formats), data, *size)


def _embed(path: Path, settings: PageParams) -> tuple[str, tuple[int, int]]:
    content, kind = path.read_bytes(), "png"
    size = picture_size(path)
    if len(content) > 1000 * settings.webp_above_kb:
        picture = Image.fromarray(read_picture(path))
        if picture.width > WIDEST:
            size = (WIDEST, round(picture.height * WIDEST / picture.width))
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        picture.save(buffer, format="WEBP", quality=settings.webp_quality)
        if buffer.tell() < len(content):
            content, kind = buffer.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}", size
