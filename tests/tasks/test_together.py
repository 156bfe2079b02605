"""Several tasks in one process: the same values as each alone, and one pass over the pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.metrics import DatasetScores, Metric
from regroup.model import GroupViT
from regroup.scoring.code import code_of
from regroup.tasks import TaskResult, Work, evaluation

MEMBERS = {"retrieval": {"ks": [1, 2]}, "three": {"task": "retrieval", "limit": 3, "ks": [1]}}


def test_values_are_those_of_each_alone(model: GroupViT, coco: Path) -> None:
    work = Work({"coco": coco})
    one = evaluation("zero_shot", {"task": "together", "tasks": MEMBERS})
    result = one.run(model, work)
    alone = {name: evaluation(name, values).run(model, work) for name, values in MEMBERS.items()}
    expected = {
        f"{name}_{metric}": value
        for name, other in alone.items()
        for metric, value in other.datasets["coco"].values.items()
    }
    assert dict(result.datasets["coco"].values) == expected
    assert set(result.metrics) == set(expected)
    assert result.main == "retrieval_mean_recall"
    assert result.metrics["three_image_median"].unit == "rank"
    assert set(result.files) == {"retrieval_ranks.parquet", "three_ranks.parquet"}
    assert result.datasets["coco"].images == 4
    assert result.datasets["coco"].protocol["three"]["images"] == 3
    chance = alone["three"].datasets["coco"].details["chance"]
    assert result.datasets["coco"].details["chance"]["three_image_r1"] == chance["image_r1"]
    assert one.sources == ("coco",)


def test_what_is_written_down_reads_back_as_the_same(coco: Path) -> None:
    one = evaluation("zero_shot", {"task": "together", "tasks": MEMBERS})
    written = one.options.model_dump(mode="json")
    assert evaluation("zero_shot", {**written, "task": "together"}) == one


def test_members_code_is_the_wholes() -> None:
    """What would make a member run again makes the whole run again."""
    one = evaluation("zero_shot", {"task": "together", "tasks": {"retrieval": {}}})
    assert {file.name for file in one.files} >= {"retrieval.py", "_ranks.py"}
    without = code_of("together")
    assert code_of("together", one.files)["library"] != without["library"]


def test_two_members_metrics_of_one_name_are_no_result(
    model: GroupViT, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`image_r1` of one and `r1` of the other: the second would stand in the table as the first."""
    score = DatasetScores(values={"r1": 1.0}, images=1, protocol={"name": "made up"})
    other = TaskResult("r1", {"r1": Metric(title="R@1")}, {"coco": score})
    members = {"retrieval": {"ks": [1]}, "retrieval_image": {"task": "multilabel"}}
    one = evaluation("zero_shot", {"task": "together", "tasks": members})
    monkeypatch.setattr("regroup.tasks.multilabel.run", lambda *_: other)
    with pytest.raises(RegroupError, match="two members have metrics called retrieval_image_r1; rename"):
        one.run(model, Work({"coco": coco}))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({}, "tasks: Dictionary should have at least 1 item"),
        ({"retreival": {}}, "did you mean `retrieval`"),
        ({"retrieval": {"kks": [1]}}, "kks: unknown key"),
        ({"chance": {"task": "retrieval"}}, "chance: what is said of all members is called so"),
        ({"a": {"task": "together", "tasks": {"retrieval": {}}}}, "a task of several tasks again"),
    ],
)
def test_faults_of_members_are_named(tasks: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(RegroupError) as error:
        evaluation("zero_shot", {"task": "together", "tasks": tasks})
    assert message in str(error.value)
