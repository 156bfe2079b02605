"""Zero-shot classification against plain loops in float64: places, ensembles, ties; and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest
import torch

import regroup.features as features
from regroup.errors import RegroupError
from regroup.features import image_features, text_features
from regroup.model import GroupViT
from regroup.tasks import Work, evaluation
from regroup.tasks._class_texts import Prompts, class_features

from .conftest import COLOURS

WORDS = ["blue box", "cat", "grass", "sun"]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def plain_class(model: GroupViT, texts: list[str], ensemble: str) -> np.ndarray:
    """The feature of one class, one text at a time."""
    rows = np.array([text_features(model, [text])[0].double().numpy() for text in texts])
    return unit((unit(rows) if ensemble == "clip" else rows).mean(axis=0))


@pytest.mark.parametrize("ensemble", ["clip", "groupvit"])
@pytest.mark.parametrize("templates", ["thesis", ["the {}!", "{}", "a large photo of many {} and so on"]])
def test_scores_are_those_of_a_plain_loop(
    model: GroupViT, folders: Path, ensemble: str, templates: str | list[str]
) -> None:
    options = {"templates": templates, "ensemble": ensemble}
    found = evaluation("classification", options).run(model, Work({"classes": folders}))
    used = ["a photo of a {}."] if templates == "thesis" else list(templates)
    texts = np.array([plain_class(model, [t.replace("{}", word) for t in used], ensemble) for word in WORDS])
    hits, counts = {1: [], 5: []}, []
    for label, name in enumerate(COLOURS):
        for path in sorted((folders / "val" / name).glob("*.png")):
            image = unit(image_features(model, [path], size=32, batch=1)[0].double().numpy())
            similar = [float(sum(a * b for a, b in zip(image, text, strict=True))) for text in texts]
            place = 1 + sum(s >= similar[label] - 1e-6 for k, s in enumerate(similar) if k != label)
            for k in hits:
                hits[k].append(place <= k)
            counts.append(label)
    scores = found.datasets["classes"]
    assert scores.values["top1"] == pytest.approx(100 * np.mean(hits[1]))
    assert scores.values["top5"] == 100, "there are but four classes"
    by_class = [np.mean([h for h, c in zip(hits[1], counts, strict=True) if c == k]) for k in range(4)]
    assert scores.values["mean_recall"] == pytest.approx(100 * np.mean(by_class))
    assert scores.details["chance"] == {"top1": 25, "top5": 100, "mean_recall": 25}
    table = pq.read_table(pa.BufferReader(found.files["per_class.parquet"])).to_pylist()
    assert [(row["folder"], row["word"], row["images"]) for row in table] == [
        (name, word, 3) for name, word in zip(COLOURS, WORDS, strict=True)
    ]
    assert [row["top1"] for row in table] == pytest.approx([100 * share for share in by_class])
    assert csv.read_csv(pa.BufferReader(found.files["per_class.csv"])).to_pylist() == table


def test_the_two_ensembles_differ_and_agree_on_one_template(model: GroupViT) -> None:
    names = [("cat",), ("a red house",)]
    one, two = ["{}"], ["{}", "a bright photo of the {}"]

    def of(templates: list[str], ensemble: str) -> torch.Tensor:
        return class_features(model, names, Prompts(templates=templates, ensemble=ensemble), store=None)

    torch.testing.assert_close(of(one, "clip"), of(one, "groupvit"))
    assert (of(two, "clip") - of(two, "groupvit")).abs().max() > 1e-4


def test_further_words_are_further_texts(model: GroupViT) -> None:
    names = [("cat", "kitten"), ("dog",)]
    texts = Prompts(templates=["a {}", "{}"], words="all")
    both = class_features(model, names, texts, store=None)
    expected = plain_class(model, ["a cat", "cat", "a kitten", "kitten"], "clip")
    np.testing.assert_allclose(both[0].numpy(), expected, atol=1e-6)
    first = class_features(model, names, Prompts(templates=["a {}", "{}"]), store=None)
    np.testing.assert_allclose(first[0].numpy(), plain_class(model, ["a cat", "cat"], "clip"), atol=1e-6)


def test_many_texts_are_encoded_a_few_at_a_time(model: GroupViT, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [(f"thing {k}",) for k in range(50)]
    prompts = Prompts(templates="clip7")
    whole = class_features(model, names, prompts, store=None)
    asked = []
    monkeypatch.setattr(features, "TEXTS", 40)
    real = features.text_features

    def counted(model: GroupViT, texts: list[str], *, store: Path | None) -> torch.Tensor:
        asked.append(len(texts))
        return real(model, texts, store=store)

    monkeypatch.setattr(features, "text_features", counted)
    torch.testing.assert_close(class_features(model, names, prompts, store=None), whole, atol=1e-6, rtol=0)
    assert max(asked) == 40
    assert sum(asked) == 350


def test_features_of_very_many_texts_are_not_kept(
    model: GroupViT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [("cat",), ("dog",)]
    class_features(model, names, Prompts(), store=tmp_path / "few")
    assert [path for path in (tmp_path / "few").rglob("*") if path.is_file()]
    monkeypatch.setattr("regroup.tasks._class_texts.KEPT", 1)
    class_features(model, names, Prompts(), store=tmp_path / "many")
    assert not (tmp_path / "many").exists()


def test_the_templates_of_clip() -> None:
    eighty = Prompts(templates="clip80").texts
    assert len(set(eighty)) == 80
    assert set(Prompts(templates="clip7").texts) < set(eighty)
    assert {"a photo of a {}.", "a tattoo of the {}.", "the plushie {}."} < set(eighty)
    assert all(one.count("{}") == 1 for one in eighty)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"templates": "clip8"}, "no such templates; there are thesis, clip7, clip80"),
        ({"templates": []}, "an empty list"),
        ({"templates": ["a photo"]}, "'a photo' has to have {} once"),
        ({"templates": ["{} and {}"]}, "has to have {} once"),
        ({"templates": ["{}", "{}"]}, "is listed twice"),
        ({"per_class": 0}, "greater than or equal to 1"),
        ({"ensemble": "mean"}, "ensemble"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RegroupError) as error:
        evaluation("classification", options)
    assert message in str(error.value)


def test_a_model_that_tells_nothing_apart_hits_nothing(
    model: GroupViT, folders: Path, tmp_path: Path
) -> None:
    shutil.copytree(folders / "val", tmp_path / "val")
    # to a model that has no capitals, and reads html
    (tmp_path / "classes.txt").write_text("blue_box\tbox\ncat\tb&#111;x\ngrass\tgrass\nsun\tsun\n")
    found = evaluation("classification", {}).run(model, Work({"classes": tmp_path}))
    table = pq.read_table(pa.BufferReader(found.files["per_class.parquet"])).to_pylist()
    assert [row["top1"] for row in table[:2]] == [0, 0]


def test_classes_of_one_word_are_refused(model: GroupViT, folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "val", tmp_path / "val")
    (tmp_path / "classes.txt").write_text("blue_box\tbox\ncat\tcat\ngrass\tBox, lawn\nsun\tsun\n")
    with pytest.raises(RegroupError, match=r"cannot be told apart: blue_box and grass \(Box\)"):
        evaluation("classification", {}).run(model, Work({"classes": tmp_path}))
    own = tmp_path / "own.txt"
    own.write_text("blue_box\tbox\ncat\tcat\ngrass\tlawn\nsun\tsun\n")
    one = evaluation("classification", {"names": str(own)})
    assert one.files == (own,)
    assert one.run(model, Work({"classes": tmp_path})).datasets["classes"].images == 12


def test_one_class_is_always_right(model: GroupViT, folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "val/cat", tmp_path / "val/cat")
    scores = evaluation("classification", {"per_class": 2}).run(model, Work({"classes": tmp_path}))
    assert scores.datasets["classes"].values == {"top1": 100, "top5": 100, "mean_recall": 100}
    assert scores.datasets["classes"].images == 2


def test_chunks_change_nothing_and_broken_pictures_are_named(
    model: GroupViT, folders: Path, tmp_path: Path
) -> None:
    shutil.copytree(folders / "val", tmp_path / "val")
    (tmp_path / "val/cat/notes.txt").write_text("no picture")
    one, other = (
        evaluation("classification", {"chunk": chunk}).run(model, Work({"classes": tmp_path}))
        for chunk in (1, 512)
    )
    assert one.files == other.files
    assert one.datasets["classes"].details["other_files"] == 1
    (tmp_path / "val/cat/1.png").write_bytes(b"no picture")
    with pytest.raises(RegroupError, match=r"cat/1\.png"):
        evaluation("classification", {}).run(model, Work({"classes": tmp_path}))
