"""Studies: a folder `studies/<name>` says what is run and shown; a profile says on which data and scale.

The results of a profile's own study (the key `study` of its params.yaml) bear the profile's name; those of
another study of the same profile are called `<profile>-<study>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from regroup.errors import RegroupError
from regroup.settings import Name, Settings, parse, read_yaml

STUDIES = Path("studies")


class TableRow(Settings):
    """One row of one of the study's tables, by the row's id in its `tables.yaml`."""

    table: int = Field(ge=1, le=1000)
    row: str


class Borrowed(Settings):
    """A run of another study of the same profile: trained there, scored here as the study's own are."""

    study: Name
    variant: Name
    rows: tuple[TableRow, ...] = ()


class Outline(Settings):
    """A variants.yaml by its names: the runs, unread, and those borrowed from other studies."""

    variants: dict[Name, Any] = Field(default_factory=dict)
    borrowed: dict[Name, Borrowed] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _each_run_once(self) -> Self:
        if not self.variants and not self.borrowed:
            raise ValueError("variants: there are none, and none under `borrowed`; a study has a run")
        seen: dict[tuple[str, str], str] = {}
        for name, one in self.borrowed.items():
            if name in self.variants:
                raise ValueError(f"borrowed.{name}: is under `variants` too; call one of them otherwise")
            first = seen.setdefault((one.study, one.variant), name)
            if first != name:
                raise ValueError(
                    f"borrowed.{name}: is the same run as {first}; list the rows of both in one entry"
                )
        return self


@dataclass(frozen=True)
class StudyFiles:
    """Where the files of a study lie."""

    folder: Path

    @property
    def name(self) -> str:
        """What the study is called."""
        return self.folder.name

    @property
    def variants(self) -> Path:
        """The runs."""
        return self.folder / "variants.yaml"

    @property
    def tables(self) -> Path:
        """The tables, with the values of a publication where there is one."""
        return self.folder / "tables.yaml"

    @property
    def claims(self) -> Path:
        """Conclusions to be checked; a study may have none."""
        return self.folder / "claims.yaml"

    @property
    def overrides(self) -> Path:
        """What it changes of a profile's parameters; may be missing."""
        return self.folder / "overrides.yaml"

    @property
    def drawn(self) -> Path:
        """What it changes of them where the profile's data is drawn; may be missing."""
        return self.folder / "drawn.yaml"


@dataclass(frozen=True)
class Place:
    """A dvc.yaml of a study beside a profile's own.

    Attributes:
        study: the study.
        profile: the folder of the profile; `.` for the default one.
    """

    study: StudyFiles
    profile: Path

    @property
    def folder(self) -> Path:
        """Where its params.yaml, dvc.yaml and dvc.lock lie."""
        return self.study.folder / self.profile

    @property
    def overrides(self) -> tuple[Path, ...]:
        """What is laid over the profile's parameters, in this order; those that are there."""
        drawn = [self.study.drawn] if is_drawn(self.profile / "params.yaml") else []
        every = dict.fromkeys((self.study.overrides, *drawn, self.folder / "overrides.yaml"))
        return tuple(path for path in every if path.is_file())


def find_place(folder: Path) -> Place | None:
    """The place that a folder below `studies/` is, or None: `studies/<name>` or `studies/<name>/<profile>`.

    Raises:
        RegroupError: there is no such study or profile, or the study is the profile's own.
    """
    parts = folder.parts
    if parts[:1] != STUDIES.parts or not 2 <= len(parts) <= 3 or ".." in parts:
        return None
    return place_of(parts[1], Path(*parts[2:]))


def place_of(study: str, profile: Path = Path()) -> Place:
    """The place of a study with a profile.

    Raises:
        RegroupError: as `find_place`.
    """
    place = Place(StudyFiles(STUDIES / study), profile)
    if not place.study.variants.is_file():
        known = ", ".join(sorted(path.parent.name for path in STUDIES.glob("*/variants.yaml"))) or "none"
        raise RegroupError(
            f"{place.study.variants}: no such file, so there is no study `{study}`; known: {known}"
        )
    params = profile / "params.yaml"
    if not params.is_file():
        raise RegroupError(
            f"{params}: no such file, so there is no profile `{profile}` to run `{study}` with"
        )
    if own_study(params) == place.study.folder:
        start = "dvc repro" if profile == Path() else f"dvc repro {profile / 'dvc.yaml'}"
        raise RegroupError(f"{place.study.folder}: is the study of {params} itself; start it with `{start}`")
    return place


def own_study(params_file: Path) -> Path:
    """The folder of a profile's own study.

    Raises:
        RegroupError: the file is no profile's.
    """
    values = read_yaml(params_file)
    if not isinstance(values, dict) or not isinstance(values.get("study"), str):
        raise RegroupError(f"{params_file}: study: this key is missing")
    return Path(values["study"])


def is_drawn(params_file: Path) -> bool:
    """Whether the images that a profile trains on are drawn; False where the file does not say."""
    place: Any = read_yaml(params_file)
    for key in ("sources", "coco", "kind"):
        place = place.get(key) if isinstance(place, dict) else None
    return bool(place == "mini")


def profile_folder(profile: str) -> Path:
    """The folder of the profile that is called so; the default profile's is the project's root."""
    return Path(profile) if (Path(profile) / "params.yaml").is_file() else Path()


def files_of(study: str, profile: str) -> StudyFiles:
    """The files of a study that is run with a profile: its own, or one below `studies/`."""
    own = own_study(profile_folder(profile) / "params.yaml")
    return StudyFiles(own if own.name == study else STUDIES / study)


def params_of(study: str, profile: str) -> Path:
    """The parameters of a study that is run with a profile."""
    folder = profile_folder(profile)
    own = folder / "params.yaml"
    return (
        own if own_study(own).name == study else Place(StudyFiles(STUDIES / study), folder).folder / own.name
    )


def results_of(study: str, profile: str) -> str:
    """What the results of a study are called that is run with a profile."""
    own = own_study(profile_folder(profile) / "params.yaml").name
    return profile if study == own else f"{profile}-{study}"


def load_outline(variants_file: Path) -> Outline:
    """The names in a variants.yaml, and what it borrows.

    Raises:
        RegroupError: no run at all, a name that cannot be one, or an entry under `borrowed` with a key that
            is unknown, missing or ill-typed.
    """
    values = read_yaml(variants_file)
    return parse(Outline, values if isinstance(values, dict) else {}, variants_file)


def load_borrowed(variants_file: Path) -> Mapping[str, Borrowed]:
    """The entries under `borrowed` of a variants.yaml; errors as for `load_outline`."""
    return load_outline(variants_file).borrowed
