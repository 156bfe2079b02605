"""What a stage did, for MLflow; the only package that knows MLflow.

A stage writes a journal, which costs milliseconds, needs no database and cannot fail the stage:

    with track_stage("finetune@ge", profile="mini", root=root, params=..., inputs=..., outputs=...,
                     settings=settings) as run:
        run.log_metrics({"loss": 0.1}, step=1)

`python -m regroup.tracking publish` turns the journals into MLflow runs. One process does that for all stages
of a pipeline run, because importing MLflow takes longer than many a stage. A long stage has it done in the
background while it runs, so that its curves can be watched.
"""

from regroup.tracking.digests import dvc_digest
from regroup.tracking.journal import StageRun, TrackingParams, git_revision, track_stage
from regroup.tracking.last_run import LastRun, read_last_runs

__all__ = [
    "LastRun",
    "StageRun",
    "TrackingParams",
    "dvc_digest",
    "git_revision",
    "read_last_runs",
    "track_stage",
]
