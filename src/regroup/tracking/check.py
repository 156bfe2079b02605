"""Whether MLflow knows every output that dvc.lock names, by its digest."""

from __future__ import annotations

import sys
from pathlib import Path

from regroup.errors import RegroupError
from regroup.journal.location import tracking_uri
from regroup.journal.locked import locked_outputs
from regroup.journal.stage_run import TrackingParams
from regroup.settings import parse, read_yaml
from regroup.tracking.held import is_held
from regroup.tracking.store import Store, mlflow_name


def check(root: Path, params_file: Path) -> int:
    """Print how many outputs of a profile's dvc.lock are in MLflow, and which are not; 1 if any is not.

    What no run made counts as kept only while it is here: in the project's folder or in DVC's cache.

    Raises:
        RegroupError: the parameters, dvc.lock or the store cannot be read.
    """
    values = read_yaml(root / params_file)
    if not isinstance(values, dict) or not isinstance(values.get("tracking"), dict):
        raise RegroupError(
            f"{params_file}: tracking: this section is missing; is it a profile's params.yaml?"
        )
    settings = parse(TrackingParams, values["tracking"], params_file)
    lock = params_file.with_name("dvc.lock")
    outputs = {out.path: out for out in locked_outputs(root / lock)}
    uri = tracking_uri(root, settings.uri)
    try:
        store = Store(root, uri, settings.experiment)
        made = store.digests("tags.kind = 'stage'", "output.")
        kept = store.digests("tags.kind = 'pipeline'", "kept.")
    except Exception as error:  # whatever a database or a server comes up with
        raise RegroupError(f"MLflow's store {uri}: {type(error).__name__}: {error}") from None
    by_run = {path for path, out in outputs.items() if out.md5 in made.get(mlflow_name(path), ())}
    noted = {path for path, out in outputs.items() if out.md5 in kept.get(mlflow_name(path), ())} - by_run
    by_parent = {path for path in noted if is_held(root, outputs[path])}
    missing = sorted(outputs.keys() - by_run - by_parent)
    print(
        f"{len(outputs)} outputs in {lock}: {len(by_run)} made by a run in MLflow, {len(by_parent)} kept "
        f"from DVC's cache or the repository, {len(missing)} not found"
    )
    for path in missing:
        where = "neither in the folder nor in DVC's cache" if path in noted else "not in MLflow"
        print(f"{where}: {path} ({outputs[path].md5})", file=sys.stderr)
    return 1 if missing else 0
