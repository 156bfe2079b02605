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
        ("  robustness: {like: more}\n", "evaluate: robustness.like: more is no entry to take options from"),
        ("  detection: {like: 7}\n", "evaluate: detection.like: 7 is no entry to take options from"),
        (
            "  robustness: {like: segmentation, datasets: {cocoa: {limit: 5}}}\n",
            "evaluate: robustness.datasets.cocoa: segmentation has no such data set (coco, voc, context",
        ),
        ("  retrieval: yes\n", "evaluate: retrieval: a mapping of options is wanted"),
    ],
)  # fmt: skip
def test_a_fault_under_evaluate_is_named_with_its_key(tmp_path: Path, entries: str, message: str) -> None:
    with pytest.raises(RegroupError) as error:
        load_params(with_evaluate(tmp_path, entries))
    assert f"params.yaml: {message}" in str(error.value)


LIKE = """  robustness: {like: segmentation, levels: [3], datasets: {voc: {limit: 5}, ade: null}}
  detection: {like: segmentation, names: drawn, batch: 4}
"""


def test_an_entry_like_another_takes_what_its_task_has_too(tmp_path: Path) -> None:
    """So what a study asks for is scored at the sizes of the profile, whatever they are."""
    params = load_params(with_evaluate(tmp_path, LIKE))
    theirs = params.segmentation
    robustness, detection = (
        params.evaluate[name].options.model_dump() for name in ("robustness", "detection")
    )
    for key in ("short_side", "long_side", "window", "stride", "top_k", "batch"):
        assert robustness[key] == getattr(theirs, key)
    assert robustness["levels"] == (3,)
    assert list(robustness["datasets"]) == ["voc", "ade"]
    assert robustness["datasets"]["voc"] == theirs.datasets["voc"].model_dump() | {"limit": 5}
    assert robustness["datasets"]["ade"] == theirs.datasets["ade"].model_dump()
    assert (detection["short_side"], detection["batch"]) == (theirs.short_side, 4)


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
