"""Where a project's MLflow store and its artefacts are: found from the project each time, never remembered.

MLflow writes absolute paths into its database, so a copied project would put artefacts into the original's
folder, and a moved one would lose its own. In a database inside the project, artefact locations are therefore
relative to the project's root: MLflow's own commands find them when they are started there.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from regroup.errors import RegroupError

DEFAULT = "sqlite:///mlflow.db"
ARTEFACTS = "mlartifacts"
SCHEMES = ("sqlite", "postgresql", "mysql", "mssql", "http", "https")
"""Stores that MLflow keeps up and that outlive the process; its folders of text files are neither."""
COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)
"""Where MLflow's database has locations of artefacts."""


def check_uri(uri: str) -> str:
    """The URI itself.

    Raises:
        RegroupError: no store of a kind that is known.
    """
    scheme, found, rest = uri.partition("://")
    # `sqlite://` alone is a database in memory, which would forget what is published
    if not found or scheme.split("+")[0] not in SCHEMES or not rest.strip("/"):
        raise RegroupError(
            f"MLflow tracking URI {uri!r}: not a store that is known here; {DEFAULT} is a database at the "
            f"project's root, and {', '.join(SCHEMES[1:])} are known too"
        )
    return uri


def portable_uri(root: Path, given: str | None) -> str:
    """The store as a journal notes it: MLFLOW_TRACKING_URI, else `given`, else the default.

    A database in the project's folder is named relative to it, so that the note holds in a copy.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or given or DEFAULT
    prefix, found, path = uri.partition(":///")
    if found and prefix.startswith("sqlite") and Path(path).is_absolute():
        inside = Path(os.path.normpath(path))
        if inside.is_relative_to(root):
            return f"{prefix}:///{inside.relative_to(root)}"
    return uri


def tracking_uri(root: Path, given: str | None) -> str:
    """The store as MLflow takes it: MLFLOW_TRACKING_URI, else `given`, else a database at `root`.

    The path of a database is absolute.

    Raises:
        RegroupError: no store of a kind that is known.
    """
    uri = check_uri(os.environ.get("MLFLOW_TRACKING_URI") or given or DEFAULT)
    prefix, found, path = uri.partition(":///")
    return f"{prefix}:///{root / path}" if found and prefix.startswith("sqlite") else uri


def noted_uri(uri: str, *, absolute: bool) -> str | None:
    """What a journal notes of its store; None stands for the default.

    Args:
        uri: as it stands there.
        absolute: whether the journal is of the first format, which had the default as an absolute path: that
            of the folder where the project lay then.
    """
    return None if absolute and uri.startswith("sqlite:///") and uri.endswith("/mlflow.db") else uri


class Artefacts:
    """The artefacts of one store."""

    def __init__(self, root: Path, uri: str) -> None:
        """Those of the store at `uri`, as `tracking_uri` returns it, for the project at `root`."""
        path = uri.partition(":///")[2].partition("?")[0]
        self.database = Path(os.path.normpath(path)) if uri.startswith("sqlite") else None
        self.inside = self.database is not None and self.database.is_relative_to(root)
        # what is relative in another project's database is so to that project
        self.base = root if self.database is None or self.inside else self.database.parent

    @property
    def home(self) -> Path:
        """Folder of the artefacts, unless a server has them."""
        return self.base / ARTEFACTS

    def for_new_experiment(self, uri: str) -> str | None:
        """What MLflow is told where artefacts go; None leaves it to the server."""
        # without a server, MLflow would put artefacts below whatever folder it is started in
        return None if uri.startswith("http") else self.home.as_uri()

    def absolute(self, location: str) -> str:
        """A location as MLflow can use it from any working folder."""
        relative = not urlsplit(location).scheme and not Path(location).is_absolute()
        return (self.base / location).as_uri() if relative else location

    def mend(self) -> None:
        """Make the locations in the project's database its own, in one transaction.

        Locations below a project's `mlartifacts`, this one's or that which the database was copied or moved
        away from, become relative. Artefacts that a copy has written into the other project's folder
        are copied here first. In a database outside of the project, which several may share, new runs put
        theirs beside the database.

        Raises:
            sqlite3.Error: the database is locked, read-only or damaged.
            OSError: artefacts cannot be copied.
        """
        if self.database is None or not self.database.is_file():
            return
        with closing(sqlite3.connect(self.database, timeout=20)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "experiments" not in tables:
                return
            known = connection.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
            old = [(location, part) for (location,) in known if (part := self._mendable(location))]
            if not old:
                return
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                for location, part in old:
                    if self.inside:
                        self._fetch(connection, location, part)
                    new = part if self.inside else (self.base / part).as_uri()
                    for table, column in COLUMNS if self.inside else COLUMNS[:1]:
                        if table in tables:
                            connection.execute(
                                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                                f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                                (new, len(location) + 1, location, len(location) + 1, f"{location}/"),
                            )

    def _mendable(self, location: str | None) -> str | None:
        """What of an absolute location is below a project's root; None where nothing is to be done."""
        folder = _local(location)
        if folder is None:
            return None
        # beside ours, that of MLflow's own first experiment
        default = self.inside and folder.parent.name == "mlruns" and folder.name.isdigit()
        if folder.name != ARTEFACTS and not default:
            return None
        part = f"mlruns/{folder.name}" if default else ARTEFACTS
        project = folder.parents[1 if default else 0]
        if project == self.base:
            return part if self.inside else None
        # a folder of that name that somebody has chosen on another disk is no project's
        return None if folder.exists() and not (project / "dvc.yaml").exists() else part

    def _fetch(self, connection: sqlite3.Connection, location: str, part: str) -> None:
        """Copy artefacts of this database's runs that lie in another project's folder."""
        there, here = _local(location), self.base / part
        if there is None or there == here:
            return
        rows = connection.execute(
            "SELECT artifact_uri FROM runs WHERE substr(artifact_uri, 1, ?) = ?",
            (len(location) + 1, f"{location}/"),
        )
        for (run,) in rows:
            below = unquote(run.removeprefix(f"{location}/"))
            if (there / below).is_dir() and not (here / below).exists():
                copy = here / f"{below}.{os.getpid()}.tmp"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(there / below, copy)
                copy.rename(here / below)


def _local(location: str | None) -> Path | None:
    """The folder of an absolute location on this machine; None for others."""
    parts = urlsplit(location or "")
    folder = Path(unquote(parts.path))
    return folder if parts.scheme in ("", "file") and folder.is_absolute() else None
