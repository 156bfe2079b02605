"""What a profile evaluates: names and options."""

from __future__ import annotations

from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.params import load_params
from regroup.segmentation.settings import EvaluateParams
from regroup.tasks import Evaluation, evaluation, item_name, split_item

ROOT = Path(__file__).parents[2]


def test_an_entry_names_its_task_or_is_called_like_it() -> None:
    assert evaluation("retrieval", {}).task == "retrieval"
    other = evaluation("retrieval_train", {"task": "retrieval", "split": "train"})
    assert (other.name, other.task, other.options.split) == ("retrieval_train", "retrieval", "train")
    assert other.sources == ("coco",)


def with_evaluate(tmp_path: Path, entries: str) -> Path:
    """The default parameters with more under `evaluate`."""
    text = (ROOT / "params.yaml").read_text()
    assert text.count("\nevaluate:\n") == 1
    file = tmp_path / "params.yaml"
    file.write_text(text.replace("\nevaluate:\n", f"\nevaluate:\n{entries}"))
    return file


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ("  retrieval: {kks: [1]}\n", "evaluate: retrieval.kks: unknown key; did you mean `ks`?"),
        ("  retrieval: {ks: [0]}\n", "evaluate: retrieval.ks.0: Input should be greater than or equal to 1"),
        ("  retreival: {}\n", "evaluate: retreival.task: retreival: no such task; did you mean `retrieval`?"),
        ("  karpathy: {task: 7}\n", "evaluate: karpathy.task: 7 is no name of a task"),
        ("  a-b: {task: retrieval}\n", "evaluate: a-b: a name here is lower-case letters"),
        ("  retrieval: yes\n", "evaluate: retrieval: a mapping of options is wanted"),
    ],
)  # fmt: skip
def test_a_fault_under_evaluate_is_named_with_its_key(tmp_path: Path, entries: str, message: str) -> None:
    with pytest.raises(RegroupError) as error:
        load_params(with_evaluate(tmp_path, entries))
    assert f"params.yaml: {message}" in str(error.value)


def test_segmentation_has_typed_settings(tmp_path: Path) -> None:
    params = load_params(with_evaluate(tmp_path, "  retrieval: {limit: 5}\n"))
    assert list(params.evaluate) == ["retrieval", "segmentation"]
    assert isinstance(params.segmentation, EvaluateParams)
    assert params.segmentation.window == 128
    alone = params.model_copy(update={"evaluate": {"retrieval": params.evaluate["retrieval"]}})
    with pytest.raises(RegroupError, match=r"evaluate\.segmentation: this key is missing"):
        _ = alone.segmentation


def test_an_item_is_a_task_and_a_variant_and_no_other_pair() -> None:
    for pair in (("segmentation", "ge-384"), ("few_shot", "a-b-c"), ("retrieval", "original")):
        assert split_item(item_name(*pair)) == pair


def test_a_curve_is_scored_on_less() -> None:
    one = load_params(ROOT / "params.yaml").evaluate["segmentation"]
    point = one.validating
    assert point is not None
    assert [(name, d.limit) for name, d in point.options.datasets.items()] == [("coco", 100)]
    without = one.options.model_copy(update={"validation": type(one.options.validation)()})
    assert Evaluation("segmentation", "segmentation", without).validating is None
    assert evaluation("retrieval", {}).validating is None
