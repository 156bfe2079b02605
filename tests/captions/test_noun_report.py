"""The report on nouns: the figure's numbers and the reasons for suspicion."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from regroup.captions.labels import extract_labels
from regroup.captions.noun_report import Noun, read_nouns, suspicious_nouns, write_noun_report
from regroup.captions.settings import NounsParams
from regroup.errors import RegroupError

from .conftest import CAPTIONS, write_coco


def test_suspicion_has_a_reason() -> None:
    nouns = [
        Noun("dog", 90, 91, 91),
        Noun("Dog", 10, 10, 91),
        Noun("TYPING", 5, 5, 33),
        Noun("Jonas", 3, 3, 0),
        Noun("twice", 2, 40, 40),
        Noun("%", 2, 2, 2),
        Noun("3rd", 1, 1, 1),
    ]
    found = {one.noun.text: one.reason for one in suspicious_nouns(nouns)}
    assert found == {
        "Dog": "capitals",
        "TYPING": "capitals",
        "Jonas": "name",
        "twice": "rarely a noun",
        "%": "not a word",
    }


def test_the_report_holds_every_noun_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco", {1: CAPTIONS, 2: [*CAPTIONS, "dog " * 7, "A man named Jonas"]})
    extract_labels(root, tmp_path / "captions", NounsParams(vocabularies={"often": 5, "any": 0}))
    one, two = (
        write_noun_report(tmp_path / "captions", tmp_path / name, profile="mini", drawn=True, rows=3)
        for name in "ab"
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    data = np.load(tmp_path / "a" / "noun_frequency.npz")
    nouns = read_nouns(tmp_path / "captions")
    assert data["noun"].tolist() == [noun.text for noun in nouns]
    assert data["noun"][0] == "dog"
    assert data["count"][0] == nouns[0].count <= nouns[0].occurrences == 11
    assert dict(zip(data["threshold_name"].tolist(), data["threshold"].tolist(), strict=True)) == {
        "any": 0,
        "often": 5,
    }
    with (tmp_path / "a" / "frequent_nouns.csv").open() as file:
        assert [row["noun"] for row in csv.DictReader(file)] == data["noun"].tolist()
    markdown = (tmp_path / "a" / "frequent_nouns.md").read_text()
    assert markdown.count("\n| ") == 1 + 3 + 1  # rule, rows, heading
    assert "mini: our numbers come from a small model" in markdown
    doubtful = (tmp_path / "a" / "suspicious_nouns.md").read_text()
    assert "how often each is a noun here: twice 0, exact 0, Jonas 1, TYPING 0." in doubtful
    caption = json.loads((tmp_path / "a" / "noun_frequency.json").read_text())
    assert set(caption) == {"title", "caption", "thesis", "profile"}
    assert "any (above 0) and often (above 5)" in caption["caption"]
    with (tmp_path / "a" / "suspicious_nouns.csv").open() as file:
        assert {row["noun"] for row in csv.DictReader(file)} == {
            one.noun.text for one in suspicious_nouns(nouns)
        }


def test_phrases_are_counted_by_both_rules(tmp_path: Path) -> None:
    texts = [
        "a bowl of soup.",
        "a dog",
        "A dog and a red cat.",
        "It sits.",
    ]  # the rules agree on the last two
    extract_labels(write_coco(tmp_path / "coco", {1: texts}), tmp_path / "captions", NounsParams())
    write_noun_report(tmp_path / "captions", tmp_path / "out", profile="mini", drawn=True)
    with (tmp_path / "out" / "noun_phrases.csv").open() as file:
        text, published = csv.reader(list(file)[1:])
    assert text == ["text", "3", "1.00", "1.75"]  # bowl of soup, dog (twice), red cat; with bowl, soup, cat
    assert published == ["published code", "4", "1.00", "1.50"]  # bowl, soup, dog, red cat; with dog, cat
    assert "same phrases in 50.0% of the captions" in (tmp_path / "out" / "noun_phrases.md").read_text()


def test_a_missing_table_says_which_stage_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match="run the stage `nouns` first"):
        read_nouns(tmp_path)
