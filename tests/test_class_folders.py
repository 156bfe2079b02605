"""Pictures by class: what is listed, what a class is called, and what is refused."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from regroup.class_folders import check_same_classes, read_class_folders
from regroup.errors import RegroupError


def make(root: Path, split: str, classes: dict[str, list[str]]) -> Path:
    for folder, names in classes.items():
        (root / split / folder).mkdir(parents=True, exist_ok=True)
        for name in names:
            (root / split / folder / name).touch()
    return root


def test_pictures_are_sorted_by_class_then_name(tmp_path: Path) -> None:
    make(tmp_path, "val", {"hot_dog": ["b.JPG", "a.png"], "cat": ["x.jpeg", ".hidden.jpg", "notes.txt"]})
    (tmp_path / "val/cat/deeper").mkdir()
    (tmp_path / "val/.cache").mkdir()
    (tmp_path / "val/readme.txt").touch()
    found = read_class_folders(tmp_path, "val")
    assert found.folders == ("cat", "hot_dog")
    assert found.names == (("cat",), ("hot dog",))
    assert [path.name for path in found.paths] == ["x.jpeg", "a.png", "b.JPG"]
    assert found.labels.dtype == np.int64
    assert found.labels.tolist() == [0, 1, 1]
    assert found.others == 2, "the text file and the folder; hidden ones do not count"
    assert [path.name for path in found.of(1)] == ["a.png", "b.JPG"]
    assert [path.name for path in read_class_folders(tmp_path, "val", per_class=1).paths] == [
        "x.jpeg",
        "a.png",
    ]


def test_links_are_followed_and_those_to_nowhere_named(tmp_path: Path) -> None:
    make(tmp_path / "far", "val", {"dog": ["1.jpg"]})
    make(tmp_path, "val", {"cat": ["1.jpg"]})
    (tmp_path / "val/dog").symlink_to(tmp_path / "far/val/dog")
    (tmp_path / "val/cat/2.jpg").symlink_to(tmp_path / "far/val/dog/1.jpg")
    found = read_class_folders(tmp_path, "val")
    assert (found.folders, found.labels.tolist()) == (("cat", "dog"), [0, 0, 1])
    (tmp_path / "val/cat/3.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(RegroupError, match=r"3\.jpg: a link to nowhere"):
        read_class_folders(tmp_path, "val")


def test_words_come_from_the_first_list_there_is(tmp_path: Path) -> None:
    make(tmp_path, "val", {"n01440764": ["1.jpg"], "n02012849": ["1.jpg"]})
    assert read_class_folders(tmp_path, "val").names == (("tench",), ("crane bird",))
    (tmp_path / "classes.txt").write_text("n01440764\tfish,  big  fish\nn02012849\tbird\nn9\tunused\n")
    assert read_class_folders(tmp_path, "val").names == (("fish", "big fish"), ("bird",))
    (tmp_path / "own.yaml").write_text("n01440764: [Fisch, Schleie]\nn02012849: Kranich\n")
    own = read_class_folders(tmp_path, "val", names=tmp_path / "own.yaml").names
    assert own == (("Fisch", "Schleie"), ("Kranich",))


def test_synsets_name_what_is_not_among_imagenets_thousand(tmp_path: Path) -> None:
    make(tmp_path, "val", {"n00004475": ["1.jpg"], "n01440764": ["1.jpg"]})
    (tmp_path / "LOC_synset_mapping.txt").write_text(
        "n00004475 organism, being\nn01440764 tench, Tinca tinca\n"
    )
    assert read_class_folders(tmp_path, "val").names == (("organism", "being"), ("tench", "Tinca tinca"))


def test_imagenets_list_is_whole(tmp_path: Path) -> None:
    from regroup.class_folders import _imagenet

    words = _imagenet()
    assert len(words) == len({one.lower() for (one,) in words.values()}) == 1000
    assert list(words) == sorted(words), "a class's number is its id's place"
    known = {"n01440764": "tench", "n03126707": "construction crane", "n02123045": "tabby cat",
             "n04008634": "projectile", "n03773504": "missile", "n15075141": "toilet paper"}  # fmt: skip
    assert {wnid: words[wnid][0] for wnid in known} == known
    make(tmp_path, "val", {wnid: ["1.jpg"] for wnid in words})
    assert read_class_folders(tmp_path, "val").names == tuple(words.values())


def test_names_of_other_scripts(tmp_path: Path) -> None:
    make(tmp_path, "val", {"狗": ["1.jpg"], "кошка": ["1.jpg"], "cafe\u0301": ["1.jpg"]})
    assert {one for (one,) in read_class_folders(tmp_path, "val").names} == {"狗", "кошка", "cafe\u0301"}
    lines = "狗\tdog\nкошка\tcat\ncaf\u00e9\tcafé\n"  # the last is one letter here and two in the folder
    (tmp_path / "classes.txt").write_text(lines, encoding="utf-8")
    assert {one for (one,) in read_class_folders(tmp_path, "val").names} == {"dog", "cat", "café"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat\tcat\n", "has no words for the classes dog"),
        ("cat cat\ndog\tdog\n", "line 1: 'cat cat' is not `folder<TAB>word, word`"),
        ("cat\tcat\ncat\tkitten\ndog\tdog\n", "line 2: the class cat is there twice"),
        ("cat\tcat,,kitten\ndog\tdog\n", "line 1"),
        ("cat\t \ndog\tdog\n", "line 1"),
    ],
)
def test_a_list_of_words_with_a_fault_is_named(tmp_path: Path, text: str, message: str) -> None:
    make(tmp_path, "val", {"cat": ["1.jpg"], "dog": ["1.jpg"]})
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(RegroupError) as error:
        read_class_folders(tmp_path, "val")
    assert f"{tmp_path / 'classes.txt'}: {message}" in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[cat]\n", "a mapping is wanted"),
        ("7: cat\n", "put the folder's name in quotes"),
        ("cat: []\n", "cat:"),
    ],
)
def test_a_yaml_list_with_a_fault_is_named(tmp_path: Path, text: str, message: str) -> None:
    make(tmp_path, "val", {"cat": ["1.jpg"]})
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(RegroupError, match=message):
        read_class_folders(tmp_path, "val", names=tmp_path / "own.yaml")
    with pytest.raises(RegroupError, match="no such file"):
        read_class_folders(tmp_path, "val", names=tmp_path / "absent.txt")


def test_folders_that_cannot_be_scored_are_named(tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match="no such folder; class-per-folder data"):
        read_class_folders(tmp_path, "val")
    make(tmp_path, "val", {"cat": ["1.jpg"], "dog": ["notes.txt"]})
    with pytest.raises(RegroupError, match=r"classes without a picture .*: dog; add some"):
        read_class_folders(tmp_path, "val")
    (tmp_path / "train").mkdir()
    (tmp_path / "train/1.jpg").touch()
    with pytest.raises(RegroupError, match="has no folder; a class is a folder of pictures"):
        read_class_folders(tmp_path, "train")
    make(tmp_path / "blank", "val", {"___": ["1.jpg"]})
    with pytest.raises(RegroupError, match="says no word"):
        read_class_folders(tmp_path / "blank", "val")
    (tmp_path / "bytes/val").mkdir(parents=True)
    odd = tmp_path / "bytes/val" / b"caf\xe9".decode(errors="surrogateescape")
    odd.mkdir()
    (odd / "1.jpg").touch()
    with pytest.raises(RegroupError, match="not UTF-8"):
        read_class_folders(tmp_path / "bytes", "val")


def test_both_splits_have_the_same_classes(tmp_path: Path) -> None:
    make(tmp_path, "train", {"cat": ["1.jpg"], "dog": ["1.jpg"]})
    make(tmp_path, "val", {"cat": ["1.jpg"], "emu": ["1.jpg"]})
    train, val = (read_class_folders(tmp_path, split) for split in ("train", "val"))
    with pytest.raises(RegroupError, match=r"train: lacks classes that the other split has: emu"):
        check_same_classes(train, val, tmp_path)
    check_same_classes(train, train, tmp_path)


def test_many_classes_are_listed_fast(tmp_path: Path) -> None:
    count = 21_000
    (tmp_path / "one/shared").mkdir(parents=True)
    (tmp_path / "one/shared/1.jpg").touch()
    (tmp_path / "val").mkdir()
    for number in range(count):  # links, which cost less than folders
        (tmp_path / f"val/c{number:05}").symlink_to("../one/shared")
    (tmp_path / "classes.txt").write_text(
        "".join(f"c{number:05}\tthing {number}\n" for number in range(count))
    )
    start = time.perf_counter()
    found = read_class_folders(tmp_path, "val")
    assert time.perf_counter() - start < 10
    assert len(found.paths) == len(found.names) == count
    assert found.names[-1] == ("thing 20999",)
