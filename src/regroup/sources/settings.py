"""Settings of the raw data: which source, and how the drawn world looks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from regroup.settings import EachOnce, InOrder, Seed, Settings, Share

SourceKey = Literal["coco", "voc12", "context", "ade"]
"""What a profile may name; `web` is drawn only to pretrain."""
SourceName = Literal["coco", "voc12", "context", "ade", "web"]
SourceKind = Literal["mini", "local", "download"]
Images = Annotated[int, Field(ge=1, le=1_000_000)]
Objects = Annotated[int, Field(ge=1, le=20)]
Height = Annotated[float, Field(gt=0, le=1)]


class SourceParams(Settings):
    """Where one source of raw data comes from.

    `kind`: `mini` draws it; `local` uses the folder `root` in place; `download` fetches what `root` (null:
    data/downloads/NAME) does not hold. `url`: a mirror with the archives, or a folder that has them, instead
    of the published addresses. `keep_archives`: do not remove them once they are unpacked.
    """

    kind: SourceKind
    root: Path | None = None
    url: str | None = None
    keep_archives: bool = False

    @model_validator(mode="after")
    def _local_needs_root(self) -> SourceParams:
        if self.kind == "local" and self.root is None:
            raise ValueError("`kind: local` needs `root`, the folder that holds the data")
        return self


class WeightsParams(Settings):
    """Published weights to fetch, by their names in `artefacts.yaml`; `root` and `url` as for sources."""

    artefacts: Annotated[tuple[str, ...], EachOnce] = ()
    root: Path | None = None
    url: str | None = None


class Style(Settings):
    """How one dataset of the drawn world looks and speaks; the datasets differ in it as real ones do."""

    hue: float = Field(default=0, ge=-360, le=360, description="degrees by which all colours are turned")
    hue_jitter: float = Field(
        default=8, ge=0, le=360, description="an image departs from `hue` by up to this much"
    )
    saturation: float = Field(default=1, gt=0, le=10, description="1 keeps the colours, less greys them")
    paleness: Share = Field(default=0, description="share of white mixed into every pixel")
    objects: Annotated[tuple[Objects, Objects], InOrder] = Field(
        default=(1, 3), description="fewest and most objects in an image"
    )
    size: Annotated[tuple[Height, Height], InOrder] = Field(
        default=(0.4, 0.75), description="height of an object as a share of the short side"
    )
    rotation: float = Field(
        default=10, ge=0, le=180, description="objects are tilted by up to this many degrees"
    )
    scenery: Share = Field(
        default=0.4, description="chance of a tree, building, window ... behind the objects"
    )
    clutter: int = Field(
        default=0, ge=0, le=100, description="most stars, hearts, keys ...: things without a name"
    )
    noise: int = Field(default=4, ge=0, le=64, description="pixel noise, in grey levels")
    out_of_place: Share = Field(default=0.2, description="chance that an object is not where it belongs")
    twins: Share = Field(default=0.25, description="chance that an object is drawn twice")
    caption_noise: Share = Field(default=0.05, description="chance that a caption names something absent")


class WorldParams(Settings):
    """The drawn world: counts of images and the style of each dataset.

    The same params give the same bytes. `web` is what the shipped checkpoint was pretrained on; the other
    datasets depart from it mildly, COCO in one direction (turned hues, paler, smaller objects, clutter) and
    the three zero-shot sets in their own.
    """

    seed: Seed = 7
    short_side: int = Field(default=96, ge=48, le=512, description="pixels")
    jpeg_quality: int = Field(default=88, ge=50, le=95)

    coco_train: Images = 1600
    coco_val: Images = 200
    voc12_train: Images = 300
    voc12_val: Images = 150
    context_train: Images = 100
    context_val: Images = 150
    ade_train: Images = 20
    ade_val: Images = 150
    web: Images = 6000

    web_style: Style = Style(
        objects=(1, 3), caption_noise=0.25, hue_jitter=15, size=(0.35, 0.85), scenery=0.5
    )
    coco_style: Style = Style(hue=28, paleness=0.22, size=(0.33, 0.65), clutter=2, noise=8, rotation=14)
    voc12_style: Style = Style(hue=-8, paleness=0.05, objects=(1, 2), size=(0.5, 0.85))
    context_style: Style = Style(hue=10, paleness=0.08, scenery=0.7, size=(0.4, 0.75))
    ade_style: Style = Style(hue=-14, paleness=0.12, scenery=0.9, size=(0.33, 0.65), noise=6)
