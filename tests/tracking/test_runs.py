"""What a stage leaves in MLflow, seen through MLflow's own client."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regroup.journal import TrackingParams, dvc_digest, read_last_runs
from regroup.tracking.publish import publish

from .tracked import client, md5, runs, stage


def test_a_stage_becomes_a_run_with_everything_that_went_in_and_came_out(root: Path) -> None:
    (root / "captions.json").write_text("[1]")
    with stage(root, inputs=("captions.json",), outputs=("out/metrics.json", "out/weights")) as run:
        for step in range(3):
            run.log_metrics({"loss": 1 / (step + 1)}, step=step)
        (root / "out/weights").mkdir(parents=True)
        (root / "out/metrics.json").write_text('{"miou": 40}')
        (root / "out/weights/model.safetensors").write_bytes(bytes(2_000_000))
    publish(root)

    (found,) = runs(root)
    assert found.info.status == "FINISHED"
    assert found.data.params == {"optimiser.rate": "0.1", "optimiser.betas": "[0.9, 0.95]", "resume": "null"}
    tags = found.data.tags
    assert (tags["stage"], tags["item"], tags["profile"]) == ("finetune", "ge", "mini")
    assert tags["output.out/metrics.json"] == md5(root / "out/metrics.json")
    history = client(root).get_metric_history(found.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    (dataset,) = found.inputs.dataset_inputs
    assert (dataset.dataset.name, dataset.dataset.digest) == ("captions.json", md5(root / "captions.json"))
    artefacts = Path(client(root).download_artifacts(found.info.run_id, ""))
    assert (artefacts / "outputs/out/metrics.json").read_text() == '{"miou": 40}'
    assert not (artefacts / "outputs/out/weights").exists()
    listed = {
        entry["path"]: entry for entry in json.loads((artefacts / "outputs.json").read_text())["outputs"]
    }
    assert listed["out/weights"]["size"] == 2_000_000
    assert not listed["out/weights"]["copied"]
    (parent,) = runs(root, "tags.kind = 'pipeline'")
    assert tags["mlflow.parentRunId"] == parent.info.run_id
    assert parent.info.status == "FINISHED"


def test_digests_are_those_in_dvc_lock(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for name in ("b.txt", "a/b.txt", "a-b.txt", "é.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}\r\n")
    for command in (["init", "--no-scm", "--quiet"], ["add", "--quiet", "folder", "folder.copy"]):
        if command[0] == "add":
            shutil.copyfile(folder / "b.txt", tmp_path / "folder.copy")
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True)
    for name in ("folder", "folder.copy"):
        recorded = (tmp_path / f"{name}.dvc").read_text()
        digest = dvc_digest(tmp_path / name)
        assert f"md5: {digest.md5}\n" in recorded
        assert f"size: {digest.size}\n" in recorded


def test_a_failed_stage_is_a_failed_run_with_the_error(root: Path) -> None:
    with pytest.raises(ValueError, match="caption 7"), stage(root):
        raise ValueError("caption 7 is empty")
    publish(root)
    (found,) = runs(root)
    assert found.info.status == "FAILED"
    assert found.data.tags["error"] == "ValueError: caption 7 is empty"
    assert runs(root, "tags.kind = 'pipeline'")[0].info.status == "FAILED"


def test_a_killed_stage_is_a_killed_run(root: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from regroup.journal import TrackingParams, track_stage
with track_stage("nouns", profile="mini", root=Path({str(root)!r}), params={{}}, inputs=[], outputs=[],
                 settings=TrackingParams(experiment="study")):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    process = subprocess.run([sys.executable, "-c", code], check=False)
    assert process.returncode == -signal.SIGKILL
    publish(root)
    (found,) = runs(root)
    assert (found.info.status, found.data.tags["stage"]) == ("KILLED", "nouns")
    assert not list((root / ".state/tracking").glob("*/"))


def test_a_rerun_supersedes_the_runs_before_it_but_not_those_of_others(root: Path) -> None:
    for profile in ("mini", "mini", "full"):
        with stage(root, profile=profile):
            pass
        publish(root)
    with stage(root, "finetune@other"):
        pass
    with stage(root):
        pass
    publish(root)
    found = runs(root)
    assert [run.data.tags["superseded"] for run in found] == ["true", "true", "false", "false", "false"]
    last = found[-1].info.run_id
    assert found[0].data.tags["superseded_by"] == found[1].info.run_id
    assert found[1].data.tags["superseded_by"] == last


def test_the_order_of_the_stages_counts_not_that_of_their_publication(root: Path) -> None:
    with stage(root):
        pass
    (early,) = (root / ".state/tracking").glob("*/")
    early.rename(root / "held back")
    with stage(root):
        pass
    publish(root)
    (root / "held back").rename(early)
    publish(root)
    first, second = runs(root)
    assert first.data.tags["superseded_by"] == second.info.run_id
    assert second.data.tags["superseded"] == "false"


def test_stages_of_one_pipeline_run_share_a_parent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROUP_PIPELINE_RUN", "monday")
    with pytest.raises(RuntimeError), stage(root):
        raise RuntimeError
    with stage(root, "nouns"):
        pass
    publish(root)
    (parent,) = runs(root, "tags.kind = 'pipeline'")
    assert (parent.data.tags["pipeline_run"], parent.info.status) == ("monday", "FAILED")
    with stage(root):  # the failed stage again, well this time
        pass
    monkeypatch.setenv("REGROUP_PIPELINE_RUN", "tuesday")
    with stage(root, "nouns"):
        pass
    publish(root)
    monday, tuesday = runs(root, "tags.kind = 'pipeline'")
    parents = [run.data.tags["mlflow.parentRunId"] for run in runs(root)]
    assert parents == [monday.info.run_id] * 3 + [tuesday.info.run_id]
    assert monday.info.status == "FINISHED"


def test_an_experiment_in_a_temporary_copy_is_recorded_with_the_project(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with stage(root):
        pass
    copy = root / ".dvc/tmp/exps/tmp1"  # where `dvc exp run --temp` works, and what it removes
    copy.mkdir(parents=True)
    monkeypatch.setenv("DVC_EXP_NAME", "slow-moth")
    with stage(copy, outputs=("out.txt",)):
        (copy / "out.txt").write_text("out")
    shutil.rmtree(copy)
    publish(root)
    usual, tried = runs(root)
    assert [run.data.tags["superseded"] for run in (usual, tried)] == ["false", "false"]
    assert tried.data.tags["dvc_experiment"] == "slow-moth"
    assert tried.data.tags["output.out.txt"] == hashlib.md5(b"out").hexdigest()


def test_a_running_stage_can_be_watched(root: Path) -> None:
    with stage(root) as run:
        run.log_metrics({"loss": 3.0}, step=0)
        run._file.flush()  # written within a second anyway
        publish(root)
        (found,) = runs(root)
        assert (found.info.status, found.data.metrics) == ("RUNNING", {"loss": 3.0})
        assert runs(root, "tags.kind = 'pipeline'")[0].info.status == "RUNNING"
        run.log_metrics({"loss": 2.0}, step=1)
    publish(root)
    (found,) = runs(root)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 2.0})
    assert runs(root, "tags.kind = 'pipeline'")[0].info.status == "FINISHED"


def test_switched_off_it_leaves_nothing(root: Path) -> None:
    before = sorted(root.iterdir())
    with stage(root, settings=TrackingParams(experiment="study", enabled=False)) as run:
        run.log_metrics({"loss": 1.0}, step=0)
    assert sorted(root.iterdir()) == before


def test_a_journal_that_cannot_be_written_does_not_stop_the_stage(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / ".state").write_text("a file where a folder should be")
    with stage(root) as run:
        run.log_metrics({"loss": 1.0}, step=0)
        (root / "done").touch()
    assert (root / "done").exists()
    assert capsys.readouterr().err.count("warning: this run of the stage will be missing in MLflow") == 1


def test_an_unreadable_output_does_not_stop_the_stage(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stage(root, outputs=("missing.json",)):
        pass
    assert "missing.json" in capsys.readouterr().err


def test_names_that_mlflow_does_not_know_are_spelt_otherwise(root: Path) -> None:
    (root / "ge@384").mkdir()
    with stage(root, outputs=("ge@384/x.txt",)) as run:
        run.log_metrics({"mIoU (things), %": 40}, step=0)
        (root / "ge@384/x.txt").write_text("x")
    publish(root)
    (found,) = runs(root)
    assert found.data.metrics == {"mIoU _things__ _": 40}
    assert found.data.tags["output.ge_384/x.txt"] == md5(root / "ge@384/x.txt")


def test_the_last_run_of_a_stage_is_noted(root: Path) -> None:
    with pytest.raises(ValueError, match="no"), stage(root):
        raise ValueError("no")
    (first,) = read_last_runs(root, "mini")
    assert (first.name, first.status) == ("finetune@ge", "FAILED")
    for name in ("finetune@ge", "nouns"):
        with stage(root, name):
            pass
    (root / ".state/last-runs/mini/old.json").write_text("{}")
    assert [(run.name, run.status) for run in read_last_runs(root, "mini")] == [
        ("finetune@ge", "FINISHED"),
        ("nouns", "FINISHED"),
    ]
    assert read_last_runs(root, "full") == []


def test_a_stage_does_not_import_mlflow() -> None:
    code = "import sys, regroup.tracking; sys.exit('mlflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
