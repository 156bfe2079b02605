"""The catalogue of public files that the study on real data needs: `artefacts.yaml`, typed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from regroup.settings import Settings, parse, read_yaml
from regroup.sources.settings import SourceName

CATALOGUE = Path(__file__).parent / "artefacts.yaml"

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
        makes: paths below the source's folder that are made from it otherwise.
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
    makes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_somewhere(self) -> Artefact:
        if bool(self.urls) == bool(self.hub):
            raise ValueError("needs either `urls` or `hub`")
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


class Catalogue(Settings):
    """All artefacts by name, and which of them a source consists of."""

    artefacts: dict[str, Artefact]
    sources: dict[SourceName, tuple[str, ...]]

    @model_validator(mode="after")
    def _sources_are_made_of_artefacts(self) -> Catalogue:
        for source, names in self.sources.items():
            if unknown := sorted(set(names) - set(self.artefacts)):
                raise ValueError(f"sources.{source}: no artefact {unknown[0]}")
        return self

    def of(self, source: SourceName) -> dict[str, Artefact]:
        """The artefacts of a source by name."""
        return {name: self.artefacts[name] for name in self.sources[source]}


@cache
def load_catalogue(path: Path = CATALOGUE) -> Catalogue:
    """Read the catalogue.

    Raises:
        RegroupError: a key is misspelt, ill-typed or missing.
    """
    return parse(Catalogue, read_yaml(path), path)
