"""One experiment in one MLflow store."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from regroup.io import read_json, write_json
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

        self.client: MlflowClient = MlflowClient(tracking_uri=uri)
        found = self.client.get_experiment_by_name(experiment)
        # without a server, MLflow would put artefacts below whatever folder it is started in
        location = None if uri.startswith("http") else (root / "mlartifacts").as_uri()
        self.experiment = (
            found.experiment_id if found else self.client.create_experiment(experiment, location)
        )
        for key, text in view_tags().items():
            if found is None or found.tags.get(key) != text:
                self.client.set_experiment_tag(self.experiment, key, text)
        self._parents: dict[str, str] = {}

    def write(self, journal: Journal) -> None:
        """Write what is new in a journal; remove the journal if its run has ended."""
        parent = self._parent(journal.start)
        state = journal.folder / "published.json"
        run_id, done = read_json(state) if state.exists() else (self._run(journal, parent), 0)
        self._log_metrics(run_id, journal.metrics[done:])
        if journal.status == "RUNNING":
            write_json(state, [run_id, len(journal.metrics)])
            return
        self._log_outputs(run_id, journal)
        if journal.error:
            self.client.set_tag(run_id, "error", journal.error)
        self.client.set_terminated(run_id, status=journal.status, end_time=journal.last_time)
        shutil.rmtree(journal.folder)

    def _run(self, journal: Journal, parent: str) -> str:
        """The run of a journal, made unless it is there from a publication that was cut short."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        name = journal.folder.name
        if found := self._search(f"tags.journal = '{name}'"):
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
        name = f"{start['stage']}@{start['item']}" if start["item"] else start["stage"]
        run = self.client.create_run(self.experiment, start["time"], tags, f"{name} ({start['profile']})")
        run_id = str(run.info.run_id)
        params = [Param(spelt(name), value) for name, value in flatten(start["params"]).items()]
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
        pipeline_run = start["pipeline_run"]
        if pipeline_run not in self._parents:
            found = self._search(f"tags.kind = 'pipeline' and tags.pipeline_run = '{pipeline_run}'")
            if not found:
                tags = {name: start[name] for name in ("profile", "revision", "pipeline_run")}
                tags |= {"kind": "pipeline", "mlflow.source.name": "dvc.yaml"}
                tags |= {"mlflow.note.content": "One run of the pipeline; the stages that ran are below it."}
                name = f"{start['profile']} {pipeline_run}"
                found = [self.client.create_run(self.experiment, start["time"], tags, name)]
            self._parents[pipeline_run] = str(found[0].info.run_id)
        return self._parents[pipeline_run]

    def _log_metrics(self, run_id: str, lines: Sequence[Json]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(spelt(name), value, line["time"], line["step"])
            for line in lines
            for name, value in line["values"].items()
        ]
        for some in _batches(metrics, 1000):
            self.client.log_batch(run_id, metrics=some)

    def _log_outputs(self, run_id: str, journal: Journal) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(spelt(f"output.{entry['path']}"), entry["md5"]) for entry in journal.outputs]
        for some in _batches(tags, 100):
            self.client.log_batch(run_id, tags=some)
        if journal.outputs:
            self.client.log_dict(run_id, {"outputs": journal.outputs}, "outputs.json")
        if (journal.folder / "files").exists():
            self.client.log_artifacts(run_id, str(journal.folder / "files"), "outputs")

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

    def keep(self, lock: Path, outputs: Mapping[str, str]) -> None:
        """Note with this session's pipeline runs the outputs in dvc.lock that no stage run has made.

        They came from DVC's cache or with the repository, so no run may look as if it had made them: the
        pipeline run has a tag `kept.PATH` with the digest, and dvc.lock as an artefact.

        Args:
            lock: the profile's dvc.lock.
            outputs: its outputs, path -> MD5.
        """
        from mlflow.entities import RunTag

        made = self.digests("tags.kind = 'stage'", "output.")
        kept = {
            spelt(f"kept.{path}"): md5
            for path, md5 in outputs.items()
            if md5 not in made.get(spelt(path), ())
        }
        for parent in self._parents.values():
            for name in self.client.get_run(parent).data.tags:
                if name.startswith("kept.") and name not in kept:  # made since
                    self.client.delete_tag(parent, name)
            for some in _batches([RunTag(name, md5) for name, md5 in kept.items()], 100):
                self.client.log_batch(parent, tags=some)
            self.client.log_artifact(parent, str(lock))

    def digests(self, condition: str, prefix: str) -> dict[str, set[str]]:
        """Output -> the MD5s that the tags of some runs have of it; names spelt as MLflow allows."""
        found: dict[str, set[str]] = defaultdict(set)
        for run in self._search(condition):
            for name, md5 in run.data.tags.items():
                if name.startswith(prefix):
                    found[name.removeprefix(prefix)].add(md5)
        return found

    def run_with(self, path: str, digest: str) -> str | None:
        """The last run that made an output of this digest, or that found it there; None if there is none."""
        for prefix in ("output", "kept"):
            if found := self._search(f"tags.`{spelt(f'{prefix}.{path}')}` = '{digest}'"):
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


def spelt(text: str) -> str:
    """A name as MLflow allows it: letters, digits and a few signs, not too long."""
    return re.sub(r"[^\w./: -]", "_", text)[:250]


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(items), size):
        yield items[first : first + size]
