"""Where raw data comes from: the drawn mini world, a local folder, a download."""

from regroup.sources.make import make_source
from regroup.sources.manifest import Manifest, raw_root, read_manifest
from regroup.sources.settings import SourceKind, SourceName, Style, WorldParams

__all__ = [
    "Manifest",
    "SourceKind",
    "SourceName",
    "Style",
    "WorldParams",
    "make_source",
    "raw_root",
    "read_manifest",
]
