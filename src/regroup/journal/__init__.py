"""What a stage did, noted while it works: for MLflow, and for the facts on the report's page.

A stage writes a journal, which costs milliseconds, needs no database and cannot fail the stage:

    with track_stage("finetune@ge", profile="mini", root=root, params=..., inputs=..., outputs=...,
                     settings=settings) as run:
        run.log_metrics({"loss": 0.1}, step=1)

Nothing here knows MLflow: `regroup.tracking` turns journals into its runs.
"""

from regroup.journal.digests import dvc_digest
from regroup.journal.last_run import LastRun, read_last_runs
from regroup.journal.stage_run import StageRun, TrackingParams, git_revision, track_stage

__all__ = [
    "LastRun",
    "StageRun",
    "TrackingParams",
    "dvc_digest",
    "git_revision",
    "read_last_runs",
    "track_stage",
]
