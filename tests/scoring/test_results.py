"""What a task of somebody's own gives that is no result: said in one message that names its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.model import save_checkpoint
from regroup.plugins import Room
from regroup.scoring.results import write_result
from regroup.tasks import Work, evaluation
from tests.telling import small_telling_model

TASK = """
from regroup.metrics import DatasetScores, Metric
from regroup.tasks import TaskResult

def sources(options):
    return ()

def run(model, options, work):
    scores = DatasetScores(values={"hits": 12.5}, images=3, protocol={"name": "mine"})
    return TaskResult("hits", {"hits": Metric(title="Hits", unit="count")}, {"mine": scores})
"""
PACKAGES = iter(range(100))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'unit="count"',
            'unit="nonsense"',
            "Metric: unit: metric 'Hits': no such unit; there are percent, rank, count, ratio",
        ),
        ('unit="count"', "units=1", "Metric: units: unknown key; did you mean `unit`?"),
        ("12.5", '"many"', "DatasetScores: values.hits: Input should be a valid number"),
        ("12.5", 'float("nan")', "DatasetScores: values.hits: Input should be a finite number (got nan)"),
        ("images=3", "images=0", "DatasetScores: images: Input should be greater than or equal to 1 (got 0)"),
        ("12.5", "-1", "datasets.mine.values.hits: -1.0 is no count"),
        ('{"hits": 12.5}', '{"hit": 12.5}', "datasets.mine.values.hit: no such metric; there are hits"),
        ('TaskResult("hits"', 'TaskResult("hit"', "main: no metric 'hit'; there are hits"),
        ('{"mine": scores}', '{"mine": 12.5}', "datasets.mine: Input should be a valid dictionary"),
        ("return TaskResult(", "return (", "`run` gave a tuple, not a `TaskResult`"),
        ("12.5", "12.5", None),
    ],
)
def test_a_result_that_is_none_names_the_task_and_the_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, message: str | None
) -> None:
    package = tmp_path / f"tasks_{next(PACKAGES)}"
    package.mkdir()
    (package / "__init__.py").touch()
    assert old in TASK
    (package / "mine.py").write_text(TASK.replace(old, new))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("regroup.tasks.TASKS", Room(package.name, "task", ("sources", "run")))
    model = small_telling_model(image_size=32, groups=(16, 8))
    save_checkpoint(model, tmp_path / "checkpoint")

    def score() -> None:
        one = evaluation("mine", {})
        result = one.run(model, Work({}))
        write_result(
            result, one, tmp_path / "out", variant="v", profile="p", checkpoint=tmp_path / "checkpoint"
        )

    if message is None:
        score()
        assert (tmp_path / "out/metrics.json").is_file()
        return
    with pytest.raises(RegroupError) as error:
        score()
    assert str(error.value).startswith(f"{package / 'mine.py'}: {message}")
    assert not (tmp_path / "out").exists()
