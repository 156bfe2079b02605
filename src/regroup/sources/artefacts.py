"""The catalogue of published weights: `artefacts.yaml`, typed; data is in the sources' own files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from regroup.settings import Settings, parse, read_yaml
from regroup.sources.settings import Artefact

CATALOGUE = Path(__file__).parent / "artefacts.yaml"


class Catalogue(Settings):
    """All published weights by name."""

    artefacts: dict[str, Artefact]


@cache
def load_catalogue(path: Path = CATALOGUE) -> Catalogue:
    """Read the catalogue.

    Raises:
        RegroupError: a key is misspelt, ill-typed or missing.
    """
    return parse(Catalogue, read_yaml(path), path)
