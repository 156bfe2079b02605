"""Journals on their way to MLflow: cut short, refused, waiting, several at once; and what they leave."""

import base64
import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from regroup.journal import TrackingParams, dvc_digest, track_stage
from regroup.tracking.check import check
from regroup.tracking.publish import publish
from regroup.tracking.reader import Journal
from regroup.tracking.store import Store

from .tracked import SETTINGS, client, lock, md5, runs, stage


def test_a_publication_cut_short_is_completed_by_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "out.txt").write_text("out")
    with stage(root, outputs=("out.txt",)) as run:
        run.log_metrics({"loss": 1.0}, step=0)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "_log_outputs", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(root)
    publish(root)
    (found,) = runs(root)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert found.data.tags["output.out.txt"] == hashlib.md5(b"out").hexdigest()


def test_one_run_that_the_store_refuses_does_not_hold_up_the_others(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nouns", "shards"):
        with stage(root, name):
            pass
    write = Store.write

    def refuse_nouns(store: Store, journal: Journal) -> None:
        if journal.start["stage"] == "nouns":
            raise ValueError("too long")
        write(store, journal)

    monkeypatch.setattr(Store, "write", refuse_nouns)
    assert publish(root) == 1
    assert "1 of 2 runs could not be recorded" in capsys.readouterr().err
    assert [run.data.tags["stage"] for run in runs(root)] == ["shards"]
    monkeypatch.undo()
    assert publish(root) == 1


def test_runs_wait_for_a_server_that_is_down(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with stage(root, settings=TrackingParams(experiment="study", uri="http://127.0.0.1:9")):
        pass
    assert publish(root) == 0
    assert "warning: 1 of 1 runs could not be recorded at http://127.0.0.1:9" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    assert publish(root) == 1
    assert len(runs(root)) == 1


@pytest.mark.slow
def test_runs_wait_for_a_locked_database(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with stage(root):
        pass
    holder = sqlite3.connect(root / "mlflow.db")
    holder.execute("BEGIN EXCLUSIVE")
    assert publish(root) == 0
    assert "they are kept in .state/tracking" in capsys.readouterr().err
    holder.rollback()
    holder.close()
    assert publish(root) == 1


@pytest.mark.slow
def test_publishers_at_the_same_time_share_one_fresh_database(root: Path) -> None:
    (root / "mlflow.db").unlink()
    for name in ("nouns", "shards", "finetune"):
        with stage(root, name):
            pass
    command = [sys.executable, "-m", "regroup.tracking", "publish", "--root", str(root)]
    publishers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in publishers] == [("", 0)] * 3
    assert sorted(run.data.tags["stage"] for run in runs(root)) == ["finetune", "nouns", "shards"]


def test_publishing_opens_no_connection(root: Path, tmp_path: Path) -> None:
    with stage(root):
        pass
    code = f"""
import socket, sys
def refuse(*address, **_):
    print("asked for", address)
    raise OSError("no network here")
socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = refuse
from pathlib import Path
from regroup.tracking.publish import publish
print(publish(Path({str(root)!r})), "run")
"""
    # MLflow is silent where it sees a test or a build server; a user's machine is neither
    silent = ("MLFLOW", "DO_NOT_TRACK", "PYTEST", "CI", "GITHUB", "BUILD")
    clean = {name: text for name, text in os.environ.items() if not name.startswith(silent)}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True)
    assert done.stdout == "1 run\n"


def test_every_locked_output_is_found_by_its_digest(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "made.txt").write_text("made")
    (root / "kept@1.txt").write_text("kept")
    lock(root, {"made.txt": md5(root / "made.txt"), "kept@1.txt": md5(root / "kept@1.txt")})
    assert check(root, Path("params.yaml")) == 1
    assert "2 outputs in dvc.lock: 0 made by a run in MLflow, 0 kept" in capsys.readouterr().out
    with stage(root, "nouns", outputs=("made.txt",)):
        pass
    publish(root)
    assert check(root, Path("params.yaml")) == 0
    assert "1 made by a run in MLflow, 1 kept from" in capsys.readouterr().out
    # no run looks as if it had made what was there before
    assert {run.data.tags["stage"] for run in runs(root)} == {"nouns"}
    (parent,) = runs(root, "tags.kind = 'pipeline'")
    assert parent.data.tags["kept.kept_1.txt"] == md5(root / "kept@1.txt")
    assert "kept.made.txt" not in parent.data.tags
    lock(root, {"made.txt": "1" * 32})
    assert check(root, Path("params.yaml")) == 1
    assert f"not in MLflow: made.txt ({'1' * 32})" in capsys.readouterr().err


def test_what_was_kept_and_is_made_after_all_is_no_longer_kept(root: Path) -> None:
    (root / "out.txt").write_text("out")
    lock(root, {"out.txt": md5(root / "out.txt")})
    for outputs in ((), ("out.txt",)):
        with stage(root, outputs=outputs):
            pass
        publish(root)
    (parent,) = runs(root, "tags.kind = 'pipeline'")
    assert not [name for name in parent.data.tags if name.startswith("kept.")]


def test_the_experiment_explains_itself_and_has_a_view(root: Path) -> None:
    with track_stage(
        "finetune@ge",
        profile="mini",
        root=root,
        params={"Variant": {"title": "Group entropy"}},
        inputs=[],
        outputs=[],
        settings=SETTINGS,
    ):
        pass
    publish(root)
    tags = client(root).get_experiment_by_name("study").tags
    assert "superseded" in tags["mlflow.note.content"]
    state = json.loads(tags["mlflow.sharedViewState.regroup"])
    assert state["searchFilter"] == "tags.superseded = 'false'"
    (found,) = runs(root, state["searchFilter"])
    assert found.data.tags["mlflow.note.content"].startswith("Group entropy. Stage `finetune@ge` of profile")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_the_final_model_is_registered_once_and_segments_an_image(root: Path) -> None:
    import mlflow
    from PIL import Image

    from regroup.tracking.registry import example

    source = Path(__file__).parents[2] / "pretrain" / "groupvit-mini"
    shutil.copytree(source, root / "runs/mini/ge")
    settings = TrackingParams(experiment="study", final_model="ge")
    for _ in range(2):
        with stage(root, outputs=("runs/mini/ge",), settings=settings):
            pass
        publish(root)
    (version,) = client(root).search_model_versions("name = 'regroup-mini'")
    assert version.tags["digest"] == dvc_digest(root / "runs/mini/ge").md5
    assert client(root).get_model_version_by_alias("regroup-mini", "final").version == version.version
    files = Path(client(root).download_artifacts(version.run_id, "model"))
    assert not list(files.rglob("*.pkl"))

    mlflow.set_tracking_uri(f"sqlite:///{root / 'mlflow.db'}")
    path = list(sys.path)
    try:
        model = mlflow.pyfunc.load_model("models:/regroup-mini@final")
        (answer,) = model.predict(example(), params={"background": 0.1})
        request = example()
        request["image"] = [base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n").decode()]
        with pytest.raises(Exception, match=r"^image: not a readable image"):
            model.predict(request)
    finally:
        sys.path[:] = path
        mlflow.set_tracking_uri(None)
    with Image.open(io.BytesIO(base64.b64decode(answer["mask"]))) as mask:
        assert mask.size == (96, 96)
        assert set(mask.getdata()) <= {0, 1, 2, 3}
    assert answer["classes"] == ["background", "sky", "grass", "dog"]
    assert sum(answer["shares"].values()) == pytest.approx(1)
