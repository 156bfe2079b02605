"""Linear probe and few-shot: scikit-learn called directly, draws, separable toys, and what is refused."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from regroup.class_folders import ClassFolders, read_class_folders
from regroup.errors import RegroupError
from regroup.features import image_features
from regroup.model import GroupViT
from regroup.tasks import Work, evaluation
from regroup.tasks._probe import EXPONENTS, Choice, Probe, Samples, choose, fit
from regroup.tasks.few_shot import draw
from regroup.tasks.linear_probe import validation_rows


def toy(classes: int, each: int, *, spread: float, seed: int = 0) -> Samples:
    """Clouds around the corners of a simplex."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each)
    return Samples(np.eye(classes)[labels] * 3 + spread * rng.normal(size=(len(labels), classes)), labels)


def listed(counts: dict[str, int]) -> ClassFolders:
    labels = np.repeat(np.arange(len(counts)), list(counts.values()))
    paths = tuple(Path(f"{folder}/{k}.jpg") for folder, count in counts.items() for k in range(count))
    return ClassFolders(tuple((folder,) for folder in counts), tuple(counts), paths, labels)


def test_what_a_line_can_part_is_parted() -> None:
    train, val = toy(5, 10, spread=0.1), toy(5, 4, spread=0.1, seed=1)
    choice = choose(train, val, Probe())
    assert choice.accuracy == 100
    assert choice.unconverged == 0
    assert choice.c == 1e-6, "of values that do equally well the most regularised"


def test_the_search_takes_the_best_of_what_it_tries() -> None:
    train, val = toy(4, 12, spread=2.0), toy(4, 40, spread=2.0, seed=1)
    right = {}

    def accuracy(exponent: float) -> float:
        if exponent not in right:
            probe = LogisticRegression(C=10.0**exponent, max_iter=1000).fit(train.features, train.labels)
            right[exponent] = 100 * float(probe.score(val.features, val.labels))
        return right[exponent]

    for exponent in EXPONENTS:
        accuracy(exponent)
    for step in (1.0, 0.5, 0.25, 0.125):
        middle = min(e for e in right if right[e] == max(right.values()))
        for exponent in (middle - step, middle + step):
            if -6 <= exponent <= 6:
                accuracy(exponent)
    best = max(right.values())
    choice = choose(train, val, Probe())
    assert choice.accuracy == best
    assert choice.c == 10.0 ** min(e for e in right if right[e] == best)
    assert choice.fits == len(right)


def test_a_solver_that_is_stopped_is_counted() -> None:
    train = toy(4, 12, spread=2.0)
    _, converged = fit(train, 1e4, 2)
    assert not converged
    assert choose(train, train, Probe(max_iter=2)).unconverged > 0


def test_the_probe_is_scikit_learns_on_the_features(model: GroupViT, folders: Path) -> None:
    scores = evaluation("linear_probe", {}).run(model, Work({"classes": folders})).datasets["classes"]
    train, val = (read_class_folders(folders, split) for split in ("train", "val"))
    x, y = Probe().scaled(
        *(image_features(model, some.paths, size=32, batch=64).numpy() for some in (train, val))
    )
    direct = LogisticRegression(C=scores.details["c"], max_iter=1000).fit(x, train.labels)
    assert scores.values["top1"] == pytest.approx(100 * direct.score(y, val.labels))
    assert scores.values["top1"] == 100, "colours tell these classes apart"
    assert scores.values["mean_recall"] == 100
    assert scores.details["chance"]["top1"] == 25
    assert (scores.details["converged"], scores.details["unconverged"]) == (True, 0)


def test_unit_length_is_an_option() -> None:
    train, val = np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32), np.array([[6.0, 8.0]])
    found = Probe(normalise=True).scaled(train, val)
    np.testing.assert_allclose(found[0], np.array([[0.6, 0.8], [0, 0]]) * 2)
    np.testing.assert_allclose(found[1], np.array([[0.6, 0.8]]) * 2)


def test_a_factor_of_all_features_changes_nothing() -> None:
    train, val = toy(4, 12, spread=2.0), toy(4, 40, spread=2.0, seed=1)
    choices = []
    for factor in (1.0, 2.0**-20):  # which leaves every digit
        x, y = Probe().scaled(factor * train.features, factor * val.features)
        assert np.sqrt((x**2).mean()) == pytest.approx(1)
        choices.append(choose(Samples(x, train.labels), Samples(y, val.labels), Probe()))
    assert choices[0].c == choices[1].c
    assert choices[0].accuracy == choices[1].accuracy > 40
    zero = np.zeros((2, 3))
    assert (Probe().scaled(zero, zero)[0] == 0).all()


def test_validation_is_a_share_of_each_class() -> None:
    held = validation_rows(listed({"a": 10, "b": 2, "c": 3}), 0.2, seed=0)
    assert [int(held[:10].sum()), int(held[10:12].sum()), int(held[12:].sum())] == [2, 1, 1]
    most = validation_rows(listed({"a": 10, "b": 2}), 0.99, seed=0)
    assert [int(most[:10].sum()), int(most[10:].sum())] == [9, 1], "one is left to train on"
    assert (held[:10] == validation_rows(listed({"a": 10}), 0.2, seed=0)).all(), "whatever other classes do"
    assert any((held[:10] != validation_rows(listed({"a": 10}), 0.2, seed=k)).any() for k in (1, 2))
    with pytest.raises(RegroupError, match="classes with one picture: b"):
        validation_rows(listed({"a": 10, "b": 1}), 0.2, seed=0)


def test_draws_are_nested_apart_and_of_their_class_alone() -> None:
    three = listed({"a": 20, "b": 25, "c": 20})
    for seed in (0, 1):
        before: set[int] = set()
        for shots in (1, 2, 4, 8, 16):
            some, held = draw(three, shots, seed)
            assert np.bincount(three.labels[some]).tolist() == [shots] * 3
            assert np.bincount(three.labels[held]).tolist() == [min(shots, 4)] * 3
            assert not set(some) & set(held)
            assert before <= set(some.tolist())
            before = set(some.tolist())
    alone, _ = draw(listed({"b": 25}), 4, 0)
    among, _ = draw(three, 4, 0)
    assert (among[4:8] - 20 == alone).all()
    assert draw(three, 4, 0)[0].tolist() != draw(three, 4, 1)[0].tolist()


def test_few_shot_is_the_mean_over_seeds(model: GroupViT, folders: Path) -> None:
    options = {"shots": [1, 2, 3], "seeds": [0, 5]}
    found = evaluation("few_shot", options).run(model, Work({"classes": folders}))
    assert found.main == "top1_3"
    scores = found.datasets["classes"]
    runs = scores.details["runs"]
    assert [(run["shots"], run["seed"]) for run in runs] == [(n, seed) for n in (1, 2, 3) for seed in (0, 5)]
    train, val = (read_class_folders(folders, split) for split in ("train", "val"))
    features, test = (image_features(model, some.paths, size=32, batch=64).numpy() for some in (train, val))
    for run in runs:
        rows, _ = draw(train, run["shots"], run["seed"])
        x, y = Probe().scaled(features[rows], test)
        direct = LogisticRegression(C=run["c"], max_iter=1000)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of as many classes as samples
            direct.fit(x, train.labels[rows])
        assert run["top1"] == pytest.approx(100 * direct.score(y, val.labels))
    for n in (1, 2, 3):
        two = [run["top1"] for run in runs if run["shots"] == n]
        assert scores.values[f"top1_{n}"] == pytest.approx(np.mean(two))
        assert scores.details["standard_deviation"][f"top1_{n}"] == pytest.approx(np.std(two, ddof=1))
    zero = evaluation("classification", {}).run(model, Work({"classes": folders}))
    assert scores.details["zero_shot"]["top1"] == zero.datasets["classes"].values["top1"]


@pytest.mark.parametrize("task", ["linear_probe", "few_shot"])
def test_c_is_chosen_on_pictures_that_are_neither_learned_nor_scored(
    model: GroupViT, folders: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    searched: list[tuple[Samples, Samples]] = []

    def noted(train: Samples, val: Samples, options: Probe) -> Choice:
        searched.append((train, val))
        return choose(train, val, options)

    monkeypatch.setattr(f"regroup.tasks.{task}.choose", noted)
    options = {"shots": [2], "seeds": [3, 4]} if task == "few_shot" else {}
    evaluation(task, options).run(model, Work({"classes": folders}))
    train = read_class_folders(folders, "train")
    features = image_features(model, train.paths, size=32, batch=64).numpy()
    if task == "few_shot":
        learned, held = draw(train, 2, 3)
        x, y = Probe().scaled(features[learned], features[held])
    else:
        rows = validation_rows(train, 0.2, seed=0)
        learned, held = (~rows).nonzero()[0], rows.nonzero()[0]
        [wide] = Probe().scaled(features)
        x, y = wide[learned], wide[held]
    ours, theirs = searched[0]
    for found, expected, some in ((ours, x, learned), (theirs, y, held)):
        np.testing.assert_allclose(found.features, expected, rtol=1e-5, atol=1e-6)
        assert (found.labels == train.labels[some]).all()


def test_only_what_is_drawn_is_encoded(
    model: GroupViT, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = image_features

    def counted(model: GroupViT, paths: list[Path], **options: object) -> object:
        asked.append(len(paths))
        return real(model, paths, **options)

    monkeypatch.setattr("regroup.features.image_features", counted)
    evaluation("few_shot", {"shots": [1], "seeds": [0]}).run(model, Work({"classes": folders}))
    assert asked == [12, 8], "val; then a shot and its validation of four classes"


def test_too_few_pictures_are_named_with_what_would_work(model: GroupViT, folders: Path) -> None:
    with pytest.raises(RegroupError) as error:
        evaluation("few_shot", {}).run(model, Work({"classes": folders}))
    told = str(error.value)
    assert "train/blue_box: has 6 pictures, but 16 shots and 4 for validation take 20" in told
    assert "`shots` of at most 3 work" in told
    evaluation("few_shot", {"shots": [3], "seeds": [0]}).run(model, Work({"classes": folders}))


def test_one_class_and_other_classes_are_refused(model: GroupViT, folders: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(folders / split / "cat", tmp_path / split / "cat")
    for task in ("linear_probe", "few_shot"):
        with pytest.raises(RegroupError, match="cat: is the only class"):
            evaluation(task, {}).run(model, Work({"classes": tmp_path}))
    shutil.copytree(folders / "val/sun", tmp_path / "val/sun")
    for task in ("linear_probe", "few_shot"):
        with pytest.raises(RegroupError, match=r"train: lacks classes that the other split has: sun"):
            evaluation(task, {}).run(model, Work({"classes": tmp_path}))


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("few_shot", {"shots": []}, "shots"),
        ("few_shot", {"shots": [1, 1]}, "is listed twice"),
        ("few_shot", {"shots": [0]}, "greater than or equal to 1"),
        ("few_shot", {"seed": 3}, "unknown key; did you mean `seeds`?"),
        ("linear_probe", {"validation": 1}, "less than 1"),
        ("linear_probe", {"halvings": 9}, "less than or equal to 8"),
    ],
)
def test_options_out_of_range_are_refused(task: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(RegroupError) as error:
        evaluation(task, options)
    assert message in str(error.value)
