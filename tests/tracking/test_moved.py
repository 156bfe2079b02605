"""A project's folder that moves or is copied stays whole and stays itself."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.journal import TrackingParams
from regroup.tracking.publish import publish
from regroup.tracking.registry import register
from regroup.tracking.store import Store

from .tracked import SETTINGS, client, runs, stage

URI = "sqlite:///{}/mlflow.db"


def make(root: Path, name: str, settings: TrackingParams = SETTINGS) -> None:
    """A run of a stage that writes one file, not yet published."""
    with stage(root, name, outputs=(f"{name}.txt",), settings=settings):
        (root / f"{name}.txt").write_text(name)


def artefacts(root: Path) -> dict[str, str]:
    """Stage -> what its run has as its output, as MLflow's own commands find it in the project's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return {
            run.data.tags["stage"]: Path(
                client(root).download_artifacts(run.info.run_id, f"outputs/{run.data.tags['stage']}.txt")
            ).read_text()
            for run in runs(root)
        }


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in (root / "mlartifacts").rglob("*")}


def make_absolute(root: Path, at: Path) -> None:
    """Turn a store into one that a project at `at` had before locations were relative."""
    with sqlite3.connect(root / "mlflow.db") as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            database.execute(
                f"UPDATE {table} SET {column} = ? || {column} WHERE {column} LIKE 'mlartifacts%'",
                (f"{at.as_uri()}/",),
            )
    database.close()


@pytest.fixture
def original(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with one published run and one that waits, below a folder that a copy may lie in too."""
    home = root / "original"
    home.mkdir()
    shutil.move(root / "mlflow.db", home)
    (home / "dvc.yaml").write_text("")
    make(home, "nouns")
    publish(home)
    make(home, "shards")
    monkeypatch.chdir("/")
    return home


def test_a_copied_project_publishes_into_itself(original: Path) -> None:
    copy = original.with_name("copy")
    shutil.copytree(original, copy)
    before = files(original)
    make(copy, "dino")
    assert publish(copy) == 2
    assert artefacts(copy) == {"nouns": "nouns", "shards": "shards", "dino": "dino"}
    assert files(original) == before
    assert artefacts(original) == {"nouns": "nouns"}
    shutil.rmtree(original)
    assert artefacts(copy) == {"nouns": "nouns", "shards": "shards", "dino": "dino"}


def test_a_moved_project_keeps_its_runs_and_those_that_wait(original: Path) -> None:
    moved = original.rename(original.with_name("moved to a folder"))
    assert artefacts(moved) == {"nouns": "nouns"}
    assert publish(moved) == 1
    assert artefacts(moved) == {"nouns": "nouns", "shards": "shards"}
    assert not original.exists()


def test_journals_do_not_say_where_the_project_lies(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", URI.format(original))
    make(original, "dino")
    journals = list((original / ".state/tracking").glob("*/journal.jsonl"))
    assert len(journals) == 2
    assert not [path for path in journals if str(original) in path.read_text()]


@pytest.mark.parametrize("moved", [True, False])
def test_a_store_with_absolute_locations_is_mended_when_it_is_opened(original: Path, moved: bool) -> None:
    publish(original)
    make_absolute(original, original)
    copy = original.with_name("copy")
    (shutil.move if moved else shutil.copytree)(original, copy)
    make(copy, "dino")
    assert publish(copy) == 1
    assert artefacts(copy) == {"nouns": "nouns", "shards": "shards", "dino": "dino"}
    with sqlite3.connect(copy / "mlflow.db") as database:
        assert not [line for line in database.iterdump() if f"{original}/" in line]
    database.close()
    assert original.exists() != moved
    if not moved:
        assert len([name for name in files(original) if name.endswith(".txt")]) == 2


def test_artefacts_that_a_copy_put_into_the_original_are_fetched(original: Path) -> None:
    publish(original)
    copy = original.with_name("copy")
    shutil.copytree(original, copy)
    make_absolute(copy, original)
    (run,) = runs(copy, "tags.stage = 'shards'")
    shutil.rmtree(copy / "mlartifacts" / run.info.run_id)
    Store(copy, URI.format(copy), "study")
    assert artefacts(copy) == {"nouns": "nouns", "shards": "shards"}
    assert artefacts(original) == {"nouns": "nouns", "shards": "shards"}


def test_a_folder_that_somebody_chose_for_artefacts_is_left_alone(root: Path) -> None:
    chosen = root / "large disk" / "mlartifacts"
    chosen.mkdir(parents=True)
    client(root).create_experiment("study", chosen.as_uri())
    make(root, "nouns")
    publish(root)
    assert list(chosen.rglob("nouns.txt"))
    assert artefacts(root) == {"nouns": "nouns"}


def test_a_journal_of_the_first_format_goes_into_the_project_that_has_it(original: Path) -> None:
    (journal,) = (original / ".state/tracking").glob("*/journal.jsonl")
    text = journal.read_text().replace('"format": 2, ', "")
    journal.write_text(text.replace("sqlite:///mlflow.db", URI.format(original)))
    copy = original.with_name("copy")
    shutil.copytree(original, copy)
    assert publish(copy) == 1
    assert set(artefacts(copy)) == {"nouns", "shards"}
    assert set(artefacts(original)) == {"nouns"}


def test_clones_that_share_a_database_have_their_artefacts_beside_it(root: Path) -> None:
    shared = root / "shared"
    shared.mkdir()
    shutil.move(root / "mlflow.db", shared)
    settings = TrackingParams(experiment="study", uri=URI.format(shared))
    for name in ("nouns", "shards"):
        clone = root / f"clone-{name}"
        clone.mkdir()
        make(clone, name, settings)
        assert publish(clone) == 1
        shutil.rmtree(clone)
    assert artefacts(shared) == {"nouns": "nouns", "shards": "shards"}


def test_outputs_behind_a_link_to_another_disk_keep_their_names(root: Path) -> None:
    (root / "disk").mkdir()
    project = root / "project"
    project.mkdir()
    shutil.move(root / "mlflow.db", project)
    (project / "data").symlink_to(root / "disk")
    with stage(project, outputs=("data/out.txt",)):
        (project / "data/out.txt").write_text("out")
    publish(project)
    (run,) = runs(project)
    assert "output.data/out.txt" in run.data.tags


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_registered_model_moves_along(original: Path) -> None:
    source = Path(__file__).parents[2] / "pretrain" / "groupvit-mini"
    shutil.copytree(source, original / "runs/mini/ge")
    with stage(original, outputs=("runs/mini/ge",)):
        pass
    publish(original)
    store = Store(original, URI.format(original), "study")
    assert register(store, original, "mini", "ge") == "regroup-mini/1"
    moved = original.rename(original.with_name("moved"))
    (run,) = {version.run_id for version in client(moved).search_model_versions()}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(moved)
        assert Path(client(moved).download_artifacts(run, "model/MLmodel")).is_file()
    assert register(Store(moved, URI.format(moved), "study"), moved, "mini", "ge") is None


@pytest.mark.parametrize("uri", ["mlruns", "file:./mlruns", "sqlite://", "sqlite:///", "ftp://host/x", ""])
def test_a_store_that_is_not_known_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="not a store that is known"):
        TrackingParams(experiment="study", uri=uri)


def test_a_store_in_the_environment_that_is_not_known_keeps_the_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(root, "nouns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlruns")
    assert publish(root) == 0
    assert "not a store that is known" in capsys.readouterr().err
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert publish(root) == 1


def test_a_store_that_cannot_be_opened_is_one_message(root: Path) -> None:
    from regroup.tracking.check import check

    (root / "params.yaml").write_text("name: mini\ntracking: {experiment: study}\n")
    (root / "mlflow.db").write_text("no database")
    with pytest.raises(RegroupError, match=r"MLflow's store sqlite:///.*mlflow\.db"):
        check(root, Path("params.yaml"))
