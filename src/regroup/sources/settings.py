"""Settings of the raw data: which source, and how the drawn world looks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from regroup.errors import RegroupError
from regroup.plugins import Shelf
from regroup.settings import EachOnce, InOrder, Seed, Settings, Share

SourceKind = Literal["mini", "local", "download"]
Images = Annotated[int, Field(ge=1, le=1_000_000)]
Objects = Annotated[int, Field(ge=1, le=20)]
Height = Annotated[float, Field(gt=0, le=1)]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
_CHECKSUMS = ("sha256", "sha1", "md5")


class HubFile(Settings):
    """A file of a Hugging Face repository at one revision."""

    repo: str
    revision: str
    path: str


class Artefact(Settings):
    """One public file.

    Attributes:
        file: its name here.
        urls: where it is: the publisher, then mirrors; `hub` instead for a file of Hugging Face's hub.
        md5, sha1, sha256: hex digests that the publisher or others have stated.
        megabytes: its size, about; None where it is not known. `unpacked_megabytes` likewise of what becomes
            of it; None: the same.
        unpack: path inside the archive -> path below the source's folder.
        made_by: the module of `makers/` that makes `makes`, paths below the source's folder, from it.
    """

    file: FileName
    urls: tuple[str, ...] = ()
    hub: HubFile | None = None
    md5: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")
    sha1: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    megabytes: float | None = Field(default=None, gt=0)
    unpacked_megabytes: float | None = Field(default=None, gt=0)
    unpack: dict[str, str] = Field(default_factory=dict)
    made_by: str | None = None
    makes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_somewhere(self) -> Artefact:
        if bool(self.urls) == bool(self.hub):
            raise ValueError("needs either `urls` or `hub`")
        if bool(self.makes) != bool(self.made_by):
            raise ValueError("`makes` says what is made, and `made_by` by which module of sources/makers")
        return self

    @property
    def checksum(self) -> str | None:
        """The strongest checksum stated, as `algorithm:digest`."""
        found = [(name, getattr(self, name)) for name in _CHECKSUMS]
        return next((f"{name}:{digest}" for name, digest in found if digest), None)

    @property
    def parts(self) -> tuple[str, ...]:
        """Paths below the source's folder that are there when the file has been used."""
        return (*self.unpack.values(), *self.makes)


class SourceLayout(Settings):
    """One file of `archives/`: what a source's archives unpack to, and where they are.

    Attributes:
        required: paths below the source's folder without which a run cannot start.
        optional: paths that are used if they are there.
        any_of: those of `optional` of which at least one has to be there; none: `required` says all.
        artefacts: the public files that kind `download` fetches, by name; none: it cannot be downloaded.
        pretraining: it is drawn to make the shipped checkpoint, and no profile names it.
    """

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    artefacts: dict[str, Artefact] = Field(default={})
    pretraining: bool = False

    @model_validator(mode="after")
    def _something_has_to_be_there(self) -> SourceLayout:
        if not self.required and not self.any_of:
            raise ValueError("needs `required`, or `any_of`: a folder without either could hold anything")
        if other := [part for part in self.any_of if part not in self.optional]:
            raise ValueError(f"any_of: {other[0]!r} is not among `optional`")
        return self

    @model_validator(mode="after")
    def _artefacts_become_parts(self) -> SourceLayout:
        if idle := [name for name, artefact in self.artefacts.items() if not artefact.parts]:
            raise ValueError(f"artefacts.{idle[0]}: needs `unpack`, or `made_by` and `makes`")
        return self


SOURCES = Shelf(Path(__file__).parent / "archives", "source", SourceLayout)
"""Every source of raw data, by the name of its file."""


def _known_source(name: str) -> str:
    try:
        pretraining = SOURCES.load(name).pretraining
    except RegroupError as error:
        raise ValueError(str(error)) from None
    if pretraining:
        raise ValueError(f"{name}: drawn to pretrain only; a profile cannot name it")
    return name


SourceKey = Annotated[str, AfterValidator(_known_source)]
"""What a profile may name: a file of `archives/`."""


def check_kinds(sources: Mapping[str, SourceParams]) -> None:
    """Refuse a kind that a source cannot be had by.

    Raises:
        ValueError: says what else there is.
    """
    from regroup.sources.mini.drawn import DRAWN

    for name, source in sources.items():
        if source.kind == "mini" and name not in DRAWN.names:
            raise ValueError(
                f"sources.{name}.kind: the drawn world has no {name}; it has {', '.join(DRAWN.names)}"
            )
        if source.kind == "download" and not SOURCES.load(name).artefacts:
            raise ValueError(
                f"sources.{name}.kind: {SOURCES.path(name)} names no `artefacts` to download; "
                "give `kind: local` and `root`"
            )


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
    the zero-shot sets in their own.
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
    classes_train: Images = Field(default=20, description="a class")
    classes_val: Images = Field(default=10, description="a class")
    web: Images = 6000

    web_style: Style = Style(
        objects=(1, 3), caption_noise=0.25, hue_jitter=15, size=(0.35, 0.85), scenery=0.5
    )
    coco_style: Style = Style(hue=28, paleness=0.22, size=(0.33, 0.65), clutter=2, noise=8, rotation=14)
    voc12_style: Style = Style(hue=-8, paleness=0.05, objects=(1, 2), size=(0.5, 0.85))
    context_style: Style = Style(hue=10, paleness=0.08, scenery=0.7, size=(0.4, 0.75))
    ade_style: Style = Style(hue=-14, paleness=0.12, scenery=0.9, size=(0.33, 0.65), noise=6)
    classes_style: Style = Style(
        hue=18, saturation=0.85, paleness=0.1, objects=(1, 1), size=(0.45, 0.9), clutter=1, rotation=14
    )
