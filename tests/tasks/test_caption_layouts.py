"""Retrieval from other files than COCO's, and the guard against scoring what was trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from regroup.captions.index import INDEX, SCHEMA
from regroup.errors import RegroupError
from regroup.metrics import DatasetScores
from regroup.model import GroupViT
from regroup.tasks import TASKS, TaskResult, Work, evaluation

from .conftest import CAPTIONS

KARPATHY = {"captions": "karpathy", "split": "test"}
FLICKR = {"captions": "flickr30k", "split": "test"}


def picture(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((50, 40)).save(path, "PNG")


def entry(split: str, number: int, texts: list[str]) -> dict[str, Any]:
    """An image as the file of Karpathy's splits has it."""
    name = f"COCO_val2014_{number:012d}.jpg"
    sentences = [
        {"raw": text, "tokens": text.split(), "sentid": 10 * number + k} for k, text in enumerate(texts)
    ]
    return {"split": split, "cocoid": number, "filepath": "val2014", "filename": name, "sentences": sentences}


@pytest.fixture
def entries(coco: Path) -> list[dict[str, Any]]:
    """COCO's five images as Karpathy's test split, one of them in 2014's folder; and two of other splits."""
    for number in CAPTIONS:
        source = coco / "val2017" / f"{number:012}.png"
        name = f"val2014/COCO_val2014_{number:012d}.jpg" if number == 12 else f"train2017/{number:012d}.jpg"
        (coco / name).parent.mkdir(exist_ok=True)
        (coco / name).write_bytes(source.read_bytes())
    found = [entry("test", number, texts) for number, texts in reversed(CAPTIONS.items())]
    return [*found, entry("restval", 20, ["a tree"]), entry("train", 21, ["a house"])]


@pytest.fixture
def karpathy(coco: Path, entries: list[dict[str, Any]]) -> Path:
    write(coco, entries)
    return coco


def write(root: Path, entries: Any, name: str = "annotations/dataset_coco.json") -> None:
    (root / name).write_text(json.dumps({"images": entries, "dataset": "coco"}))


@pytest.fixture
def flickr(tmp_path: Path) -> Path:
    """Flickr30k's folder: three images, both caption files, a text in another script."""
    root = tmp_path / "flickr"
    texts = {"100.jpg": ["A dog .", "собака"], "99.jpg": ["Two dogs .", "a dog ."], "7.jpg": ["a house"]}
    for number, name in enumerate(texts):
        picture(root / "flickr30k-images" / name, number)
    lines = [f"{name}#{k}\t{text}\n" for name, some in texts.items() for k, text in enumerate(some)]
    (root / "results_20130124.token").write_text("".join(lines), encoding="utf-8")
    images = [
        {"split": "test", "filename": name, "imgid": 1, "sentences": [{"raw": text} for text in some]}
        for name, some in texts.items()
    ]
    write(root, images, "dataset_flickr30k.json")
    return root


def trained(folder: Path, ids: list[int]) -> Path:
    """Shards whose index has these images."""
    folder.mkdir()
    rows = {
        name: pa.array([None] * len(ids), kind) for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)
    }
    pq.write_table(pa.table({**rows, "image_id": pa.array(ids, pa.int64())}, schema=SCHEMA), folder / INDEX)
    return folder


def run(model: GroupViT, root: Path, options: dict[str, Any], shards: Path | None = None) -> TaskResult:
    one = evaluation("retrieval", options)
    (source,) = one.sources
    return one.run(model, Work({source: root}, trained_on=shards))


def scores(*arguments: Any) -> DatasetScores:
    (found,) = run(*arguments).datasets.values()
    return found


def test_the_same_images_in_karpathys_file_have_the_same_scores(model: GroupViT, karpathy: Path) -> None:
    """Whatever the order of the file, and wherever the images lie."""
    ours, theirs = run(model, karpathy, {}), run(model, karpathy, KARPATHY)
    assert theirs.datasets["coco"].values == ours.datasets["coco"].values
    assert theirs.files["ranks.parquet"] == ours.files["ranks.parquet"]
    found = theirs.datasets["coco"]
    assert found.protocol["name"] == "karpathy_test"
    assert found.details["images_without_captions"] == 1
    assert found.details["images_as_published"] == 5000


def test_the_training_split_has_the_rest_too(model: GroupViT, karpathy: Path) -> None:
    for number in (20, 21):
        picture(karpathy / "val2014" / f"COCO_val2014_{number:012d}.jpg", number)
    found = scores(model, karpathy, KARPATHY | {"split": "train"})
    assert (found.images, found.details["images_as_published"]) == (2, 113_287)


def test_flickr30k_with_splits_and_without(model: GroupViT, flickr: Path) -> None:
    split, every = (
        run(model, flickr, FLICKR),
        run(model, flickr, {"captions": "flickr30k_token", "split": "all"}),
    )
    assert split.datasets["flickr30k"].values == every.datasets["flickr30k"].values
    found = split.datasets["flickr30k"]
    assert (found.images, found.protocol["captions"], found.protocol["texts"]) == (3, 5, 4)
    items = pq.read_table(pa.BufferReader(split.files["ranks.parquet"])).to_pylist()
    assert [row["image_id"] for row in items if row["wanted"] == "text"] == ["100", "7", "99"]


def test_images_that_were_trained_on_are_refused_or_marked(
    model: GroupViT, karpathy: Path, tmp_path: Path
) -> None:
    shards = trained(tmp_path / "shards", [7, 9, 15, 1000])
    with pytest.raises(
        RegroupError, match=r"trained on 2 of the 4 images of karpathy_test \(50\.0%.*`leak: mark`"
    ):
        run(model, karpathy, KARPATHY, shards)
    found = scores(model, karpathy, KARPATHY | {"leak": "mark"}, shards)
    assert found.protocol["name"] == "karpathy_test, 50.0% of it trained on"
    assert (found.details["trained_on"], found.details["trained_on_and_scored"]) == (4, 2)
    assert found.values == scores(model, karpathy, KARPATHY).values
    # of the first image alone nothing was
    assert scores(model, karpathy, KARPATHY | {"limit": 1}, shards).details["trained_on_and_scored"] == 0


def test_where_nothing_was_trained_on_nothing_is_said(
    model: GroupViT, karpathy: Path, tmp_path: Path
) -> None:
    clean = scores(model, karpathy, {}, trained(tmp_path / "shards", [1, 2, 3]))
    assert clean.protocol["name"] == "coco_captions_val"
    assert clean.details["trained_on_and_scored"] == 0
    unknown = scores(model, karpathy, {})
    assert unknown.details["trained_on"] == "unknown"
    assert unknown.values == clean.values
    with pytest.raises(RegroupError, match=r"index\.parquet: no such file; run the stage `shards`"):
        run(model, karpathy, {}, tmp_path / "gone")


def test_flickr30k_is_of_another_collection(model: GroupViT, flickr: Path, tmp_path: Path) -> None:
    found = scores(model, flickr, FLICKR, trained(tmp_path / "shards", [7, 99, 100]))
    assert found.details["trained_on"] == "images of another collection"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "split: coco has no split 'test'; it has train, val"),
        (FLICKR | {"split": "all"}, "split: flickr30k has no split 'all'; it has train, val, test"),
        ({"captions": "karpaty"}, "karpaty: no such layout of captions; did you mean `karpathy`?"),
        ({"leak": "ignore"}, "leak: Input should be 'refuse' or 'mark'"),
    ],
)
def test_unknown_words_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RegroupError) as error:
        evaluation("retrieval", options)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": "tset"}, r"images\[0\]\.split: is 'tset', none of train, restval"),
        ({"filename": "../a.jpg"}, r"images\[0\]\.filename: .* leaves the image folder"),
        ({"filepath": ["val2014"]}, r"images\[0\]\.filepath: is a list, not str"),
        (
            {"sentences": [{"raw": "a \ud83d"}]},
            r"sentences\[0\]\.raw: is not Unicode: '\\ud83d' is half",
        ),
        ({"filepath": ".."}, r"images\[0\]\.filepath: .* leaves the image folder"),
        ({"sentences": [{"tokens": []}]}, r"images\[0\]\.sentences\[0\]\.raw: is missing"),
        ({"sentences": "a dog"}, r"images\[0\]\.sentences: is a str, not list"),
        ({"cocoid": "15"}, r"images\[0\]\.cocoid: is a str, not int"),
        ({"cocoid": 12}, r"images\[1\]\.cocoid: image 12 comes twice"),
        (
            {"cocoid": 88, "filename": "gone.jpg", "sentences": [{"raw": "a"}]},
            r"1 of the 5 images .*000000000088\.jpg",
        ),
    ],
)
def test_bad_entries_are_named(
    model: GroupViT, karpathy: Path, entries: list[dict[str, Any]], change: dict[str, Any], message: str
) -> None:
    write(karpathy, [entries[0] | change, *entries[1:]])
    with pytest.raises(RegroupError, match=message):
        run(model, karpathy, KARPATHY)


def test_empty_splits_and_missing_files_are_named(model: GroupViT, coco: Path, flickr: Path) -> None:
    with pytest.raises(RegroupError, match=r"dataset_coco\.json: no such file; Karpathy's splits are"):
        run(model, coco, KARPATHY)
    write(coco, [entry("train", 4, ["a dog"]), entry("test", 7, [])])
    for split in ("val", "test"):
        with pytest.raises(RegroupError, match=r"dataset_coco\.json: no image has a caption"):
            run(model, coco, KARPATHY | {"split": split})
    (flickr / "flickr30k-images/7.jpg").unlink()
    with pytest.raises(
        RegroupError, match=r"1 of the 3 images of .*dataset_flickr30k\.json are missing \(7\.jpg\)"
    ):
        run(model, flickr, FLICKR)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"100.jpg\tA dog\n", "line 1: is not `NAME.jpg#NUMBER`, a tab and a caption"),
        (b"\n100.jpg#0 A dog\n", "line 2: is not `NAME.jpg#NUMBER`"),
        (b"100.jpg#0\tA dog\n100.jpg#0\tA cat\n", "line 2: caption 100.jpg#0 comes twice"),
        (b"../100.jpg#0\tA dog\n", "line 1: '../100.jpg' leaves the image folder"),
        (b"100.jpg#0\t\xff\xfe\n", "not UTF-8 (byte 10)"),
        (b"\n", "no image has a caption"),
    ],
)
def test_bad_lines_of_the_token_file_are_named(
    model: GroupViT, flickr: Path, content: bytes, message: str
) -> None:
    (flickr / "results_20130124.token").write_bytes(content)
    with pytest.raises(RegroupError) as error:
        run(model, flickr, {"captions": "flickr30k_token", "split": "all"})
    assert f"results_20130124.token: {message}" in str(error.value)


def test_an_edit_of_a_layout_scores_again() -> None:
    names = {path.name for path in TASKS.files("retrieval")}
    assert {"coco.py", "karpathy.py", "flickr30k_token.py", "_karpathy.py"} <= names
