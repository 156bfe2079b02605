"""Whether MLflow knows every output that dvc.lock names, by its digest."""

from __future__ import annotations

import sys
from pathlib import Path

from regroup.settings import read_yaml
from regroup.tracking.journal import TrackingParams, tracking_uri
from regroup.tracking.lock import locked_outputs
from regroup.tracking.store import Store, spelt


def check(root: Path, params_file: Path) -> int:
    """Print how many outputs of a profile's dvc.lock are in MLflow, and which are not; 1 if any is not.

    Raises:
        RegroupError: the parameters or dvc.lock cannot be read.
    """
    values = read_yaml(root / params_file)["tracking"]
    settings = TrackingParams.model_validate(values)
    lock = params_file.with_name("dvc.lock")
    outputs = {out.path: out.md5 for out in locked_outputs(root / lock)}
    store = Store(root, tracking_uri(root, settings.uri), settings.experiment)
    made = store.digests("tags.kind = 'stage'", "output.")
    kept = store.digests("tags.kind = 'pipeline'", "kept.")
    by_run = {path for path, md5 in outputs.items() if md5 in made.get(spelt(path), ())}
    by_parent = {path for path, md5 in outputs.items() if md5 in kept.get(spelt(path), ())} - by_run
    missing = sorted(outputs.keys() - by_run - by_parent)
    print(
        f"{len(outputs)} outputs in {lock}: {len(by_run)} made by a run in MLflow, {len(by_parent)} kept "
        f"from DVC's cache or the repository, {len(missing)} not found"
    )
    for path in missing:
        print(f"not in MLflow: {path} ({outputs[path]})", file=sys.stderr)
    return 1 if missing else 0
