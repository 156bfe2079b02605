"""One experiment in one MLflow store."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from regroup.errors import RegroupError
from regroup.io import read_json, write_json
from regroup.journal.location import Artefacts
from regroup.journal.locked import LockedOutput
from regroup.tracking.reader import Journal, Json
from regroup.tracking.view import run_note, view_tags

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

T = TypeVar("T")

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    "GIT_TERMINAL_PROMPT": "0",
}
"""Environment in which MLflow tells nobody about its use and asks git nothing."""
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
"""How long to wait for a server that is down, unless the user has set it."""


class Store:
    """One experiment in one MLflow store."""

    def __init__(self, root: Path, uri: str, experiment: str) -> None:
        """Open the store at `uri`; its tables and the experiment are made if need be."""
        os.environ.update(QUIET)
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        # seconds of importing, which nothing but this process should pay for
        from mlflow import MlflowClient

        # a locked or read-only database is a warning of ours; MLflow would print the whole stack besides
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        self.client: MlflowClient = MlflowClient(tracking_uri=uri)
        self._artefacts = Artefacts(root.resolve(), uri)
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            location = self._artefacts.for_new_experiment(uri)
            self.experiment = str(self.client.create_experiment(experiment, location))
        else:
            self.experiment = str(found.experiment_id)
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(self.experiment)
                print(f"MLflow: the experiment `{experiment}` was deleted; it is restored", file=sys.stderr)
        # a project that was copied or moved brings a database that names another folder
        self._artefacts.mend()
        for key, text in view_tags().items():
            if found is None or found.tags.get(key) != text:
                self.client.set_experiment_tag(self.experiment, key, text)
        self._parents: dict[str, str] = {}

    def ask(self) -> None:
        """Raise what MLflow raises if the store does not answer."""
        self.client.get_experiment(self.experiment)

    def write(self, journal: Journal) -> None:
        """Write what is new in a journal; that of a run that has ended may be removed afterwards."""
        parent = self._parent(journal.start)
        state = journal.folder / "published.json"
        run_id, done = self._published(state) or (self._run(journal, parent), 0)
        self._log_metrics(run_id, journal.metrics[done:])
        if journal.status == "RUNNING":
            write_json(state, [run_id, len(journal.metrics)])
            return
        self._log_outputs(run_id, journal)
        if journal.error:
            self.client.set_tag(run_id, "error", journal.error)
        if journal.damage:
            self.client.set_tag(run_id, "damaged_lines", str(len(journal.damage)))
        self.client.set_terminated(run_id, status=journal.status, end_time=journal.last_time)

    def _published(self, state: Path) -> tuple[str, int] | None:
        """Run, and number of metric lines, of an earlier publication; None if there is no such run now."""
        from mlflow.exceptions import MlflowException

        try:
            run_id, done = read_json(state)
            run = self.client.get_run(str(run_id))
        except (RegroupError, TypeError, ValueError):  # there was none, or a kill has damaged the note
            return None
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None
        return (run.info.run_id, int(done)) if run.info.lifecycle_stage == "active" else None

    def _run(self, journal: Journal, parent: str) -> str:
        """The run of a journal, made unless it is there from a publication that was cut short."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        name = journal.folder.name
        if found := self._search(f"tags.journal = '{plain(name)}'"):
            return str(found[0].info.run_id)
        start = journal.start
        identity = ("stage", "item", "profile", "revision", "pipeline_run", "dvc_experiment")
        tags = {name: start[name] for name in identity} | {
            "kind": "stage",
            "journal": name,
            "superseded": "false",
            "mlflow.source.git.commit": start["revision"],
            "mlflow.source.name": f"stages/{start['stage']}.py",
            "mlflow.parentRunId": parent,
            "mlflow.note.content": run_note(start),
        }
        tags["pipeline_run"] = plain(start["pipeline_run"])
        title = f"{journal.name} ({start['profile']})"
        run = self.client.create_run(self.experiment, start["time"], tags, title)
        run_id = str(run.info.run_id)
        # two names may become one in MLflow, which it would refuse
        values = {mlflow_name(name): value for name, value in flatten(start["params"]).items()}
        params = [Param(name, value) for name, value in values.items()]
        for some in _batches(params, 100):
            self.client.log_batch(run_id, params=some)
        context = [InputTag("mlflow.data.context", "input")]
        inputs = [
            DatasetInput(Dataset(path, entry["md5"], "local", json.dumps({"uri": path})), context)
            for entry in start["inputs"]
            for path in [entry["path"]]
        ]
        if inputs:
            self.client.log_inputs(run_id, inputs)
        return run_id

    def _parent(self, start: Json) -> str:
        """The run of the pipeline run that a stage belongs to."""
        pipeline_run = plain(start["pipeline_run"])
        if pipeline_run not in self._parents:
            found = self._search(f"tags.kind = 'pipeline' and tags.pipeline_run = '{pipeline_run}'")
            if not found:
                tags = {"profile": start["profile"], "revision": start["revision"]}
                tags |= {"pipeline_run": pipeline_run, "kind": "pipeline", "mlflow.source.name": "dvc.yaml"}
                tags |= {"mlflow.note.content": "One run of the pipeline; the stages that ran are below it."}
                name = f"{start['profile']} {pipeline_run}"
                found = [self.client.create_run(self.experiment, start["time"], tags, name)]
            self._parents[pipeline_run] = str(found[0].info.run_id)
        return self._parents[pipeline_run]

    def _log_metrics(self, run_id: str, lines: Sequence[Json]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(mlflow_name(name), value, line["time"], line["step"])
            for line in lines
            for name, value in line["values"].items()
        ]
        for some in _batches(metrics, 1000):
            self.client.log_batch(run_id, metrics=some)

    def _log_outputs(self, run_id: str, journal: Journal) -> None:
        from mlflow.entities import RunTag

        digests = {mlflow_name(f"output.{entry['path']}"): entry["md5"] for entry in journal.outputs}
        tags = [RunTag(name, md5) for name, md5 in digests.items()]
        for some in _batches(tags, 100):
            self.client.log_batch(run_id, tags=some)
        if journal.outputs:
            listing = journal.folder / "outputs.json"
            write_json(listing, {"outputs": journal.outputs})
            self.log_artefact(run_id, listing)
        if (journal.folder / "files").exists():
            self.log_artefact(run_id, journal.folder / "files", "outputs")

    def log_artefact(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Copy a file, or what is in a folder, to the artefacts of a run, below `folder` there."""
        location = self.client.get_run(run_id).info.artifact_uri
        if (absolute := self._artefacts.absolute(location)) == location:
            log = self.client.log_artifacts if path.is_dir() else self.client.log_artifact
            log(run_id, str(path), folder)
            return
        # by itself, MLflow would take the location for one below the working folder
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(absolute)
        (repository.log_artifacts if path.is_dir() else repository.log_artifact)(str(path), folder)

    def tidy(self) -> None:
        """Mark what newer runs supersede, and give the pipeline runs of this session their status."""
        versions: dict[tuple[str, ...], list[Run]] = defaultdict(list)
        for run in self._search("tags.superseded = 'false'"):
            tags = run.data.tags
            identity = tuple(tags.get(name, "") for name in ("stage", "item", "profile", "dvc_experiment"))
            versions[identity].append(run)
        for runs in versions.values():
            *old, last = sorted(runs, key=lambda run: (run.info.start_time, run.data.tags["journal"]))
            for run in old:
                self.client.set_tag(run.info.run_id, "superseded_by", last.info.run_id)
                self.client.set_tag(run.info.run_id, "superseded", "true")
        for parent in self._parents.values():
            children = self._search(f"tags.`mlflow.parentRunId` = '{parent}'")
            self._end_parent(parent, children)

    def keep(self, lock: Path, outputs: Sequence[LockedOutput], held: Callable[[LockedOutput], bool]) -> None:
        """Note with this session's pipeline runs the outputs in dvc.lock that no stage run has made.

        They came from DVC's cache or with the repository, so no run may look as if it had made them: the
        pipeline run has a tag `kept.PATH` with the digest, and dvc.lock as an artefact.

        Args:
            lock: the profile's dvc.lock.
            outputs: its outputs.
            held: whether an output is here; what is not, is not kept.
        """
        from mlflow.entities import RunTag

        made = self.digests("tags.kind = 'stage'", "output.")
        kept = {
            mlflow_name(f"kept.{out.path}"): out.md5
            for out in outputs
            if out.md5 not in made.get(mlflow_name(out.path), ()) and held(out)
        }
        for parent in self._parents.values():
            for name in self.client.get_run(parent).data.tags:
                if name.startswith("kept.") and name not in kept:  # made since, or lost
                    self.client.delete_tag(parent, name)
            for some in _batches([RunTag(name, md5) for name, md5 in kept.items()], 100):
                self.client.log_batch(parent, tags=some)
            self.log_artefact(parent, lock)

    def digests(self, condition: str, prefix: str) -> dict[str, set[str]]:
        """Output -> the MD5s that the tags of some runs have of it; names as MLflow allows them."""
        found: dict[str, set[str]] = defaultdict(set)
        for run in self._search(condition):
            for name, md5 in run.data.tags.items():
                if name.startswith(prefix):
                    found[name.removeprefix(prefix)].add(md5)
        return found

    def run_with(self, path: str, digest: str) -> str | None:
        """The last run that made an output of this digest, or that found it there; None if there is none."""
        for prefix in ("output", "kept"):
            if found := self._search(f"tags.`{mlflow_name(f'{prefix}.{path}')}` = '{digest}'"):
                return str(max(found, key=lambda run: run.info.start_time).info.run_id)
        return None

    def _end_parent(self, parent: str, children: Sequence[Run]) -> None:
        # a stage that failed and went well later in the same pipeline run is not held against it
        current = [run.info for run in children if run.data.tags.get("superseded") == "false"]
        states = {info.status for info in current}
        worst = next((state for state in ("RUNNING", "FAILED", "KILLED") if state in states), "FINISHED")
        if worst == "RUNNING":
            self.client.update_run(parent, status=worst)
        else:
            end = max((run.info.end_time for run in children if run.info.end_time), default=None)
            self.client.set_terminated(parent, status=worst, end_time=end)

    def _search(self, condition: str) -> list[Run]:
        found: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs([self.experiment], condition, max_results=1000, page_token=token)
            found.extend(page)
            if not (token := page.token):
                return found


def experiments(uri: str) -> dict[str, str]:
    """Names and numbers of the experiments that a store holds."""
    from mlflow import MlflowClient

    found = MlflowClient(tracking_uri=uri).search_experiments(filter_string="name != 'Default'")
    return {experiment.name: experiment.experiment_id for experiment in found}


def flatten(params: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested parameters as `section.key: text`; lists as JSON."""
    flat: dict[str, str] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def mlflow_name(text: str) -> str:
    """A name as MLflow allows it: letters, digits and a few signs, a plain path, not too long."""
    parts = re.sub(r"[^\w./: -]", "_", text)[:250].split("/")
    return "/".join("_" if part in ("", ".", "..") else part for part in parts)


def plain(text: str) -> str:
    """A text that can stand between quotes in a search."""
    return text.replace("'", "_")


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
