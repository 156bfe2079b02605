"""The drawn pairs of captions: one true of its picture, the other false, and no word that tells which."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regroup.captions.tokens import tokenize
from regroup.errors import RegroupError
from regroup.sources.download import missing_artefacts
from regroup.sources.make import make_source
from regroup.sources.mini.files import scenes, shown
from regroup.sources.mini.grammar import words
from regroup.sources.mini.names import load_names, world_id
from regroup.sources.mini.scenes import Scene
from regroup.sources.settings import SOURCES, SourceLayout, WorldParams

from .server import Site

WORLD = WorldParams(coco_val=70, coco_train=1)
NOUNS = {
    noun: (concept, k)
    for concept in load_names().concepts
    for pair in concept.nouns
    for k, noun in enumerate(pair)
}
LARGE, SMALL = {"large", "big", "huge"}, {"small", "little", "tiny"}
NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "compositions"
    make_source("compositions", "mini", folder, world=WORLD)
    return folder


@pytest.fixture(scope="module")
def pictures() -> dict[str, Scene]:
    """The scenes of drawn COCO's validation pictures by their names, which are those of `drawn/coco.py`."""
    drawn = scenes("coco", "val", WORLD.coco_val, shown("coco"), WORLD.coco_style, WORLD)
    return {f"{500001 + number:012d}.jpg": scene for number, scene, _ in drawn}


def pairs(folder: Path, kind: str) -> list[dict[str, Any]]:
    return list(json.loads((folder / f"{kind}.json").read_text()).values())


def said(phrase: str) -> tuple[int, str, str]:
    """Number, adjective and concept of "a small dog"."""
    number, *rest = phrase.split(" ")
    adjective = rest.pop(0) if rest[0] in LARGE | SMALL else ""
    concept, _ = NOUNS[" ".join(rest)]
    return NUMBERS[number], adjective, concept.name


def holds(caption: str, scene: Scene) -> bool:
    """Whether a sentence is true, read off the scene's own maps: numbers exactly, sizes by the tallest."""
    short = min(scene.image.size)
    told = [said(phrase) for phrase in caption.split(" and ")]
    heights = {}
    for number, adjective, name in told:
        seen = set(np.unique(scene.objects[scene.concepts == world_id(name)]).tolist())
        if len(seen) != number:
            return False
        heights[name, adjective] = [t.height / short for t in scene.things if t.concept.name == name]
    large = [h for (_, adjective), some in heights.items() if adjective in LARGE for h in some]
    small = [h for (_, adjective), some in heights.items() if adjective in SMALL for h in some]
    if large and small:
        return min(large) > 1.4 * max(small)
    return all(h > 0.5 for h in large) and all(h < 0.4 for h in small)


@pytest.mark.parametrize("kind", ["size", "swap", "count", "object"])
def test_one_caption_is_true_and_the_other_false(drawn: Path, pictures: dict[str, Scene], kind: str) -> None:
    found = pairs(drawn, kind)
    assert len(found) > 10
    for pair in found:
        scene = pictures[pair["filename"]]
        assert holds(pair["caption"], scene), pair
        assert not holds(pair["negative_caption"], scene), pair


def test_an_exchanged_object_is_nowhere_in_the_picture(drawn: Path, pictures: dict[str, Scene]) -> None:
    for pair in pairs(drawn, "object"):
        true, false = (
            {said(p)[2] for p in pair[key].split(" and ")} for key in ("caption", "negative_caption")
        )
        (new,) = false - true
        assert not (pictures[pair["filename"]].concepts == world_id(new)).any()
        assert len(true - false) == 1


def test_no_word_gives_the_answer_away(drawn: Path) -> None:
    """Each size and number is as often true as false, so a model of the language alone scores chance."""
    for kind in ("size", "count"):
        true, false = (
            Counter(said(pair[key])[:2] for pair in pairs(drawn, kind))
            for key in ("caption", "negative_caption")
        )
        assert true == false, kind
    sizes = [[said(p)[1] for p in pair["caption"].split(" and ")] for pair in pairs(drawn, "swap")]
    first = sum(one[0] in LARGE for one in sizes)
    assert 0 < first < len(sizes)


def test_another_order_has_the_same_words_and_no_whole_phrase(drawn: Path) -> None:
    found = pairs(drawn, "order")
    assert len(found) > 30
    for pair in found:
        caption, negative = pair["caption"], pair["negative_caption"]
        assert caption != negative
        assert sorted(caption.split()) == sorted(negative.split())
        phrases = caption.removeprefix("a picture of ").split(" and ")
        assert not any(f" {phrase} " in f" {negative} " for phrase in phrases)


def test_captions_are_of_the_words_that_the_text_tower_knows(drawn: Path) -> None:
    known = {token for row in tokenize(list(words())) for token in row.tolist()}
    most = 0
    for file in drawn.glob("*.json"):
        if file.name != "manifest.json":
            both = [
                [pair[key] for pair in pairs(drawn, file.stem)] for key in ("caption", "negative_caption")
            ]
            assert set(tokenize(both[0] + both[1]).ravel().tolist()) <= known
            lengths = [[len(row[row > 0]) for row in tokenize(texts, width=40)] for texts in both]
            most += sum(abs(a - b) > 2 for a, b in zip(*lengths, strict=True))
    assert most == 0


def test_the_same_world_gives_the_same_pairs(drawn: Path, tmp_path: Path) -> None:
    again = make_source("compositions", "mini", tmp_path / "again", world=WORLD)
    other = make_source(
        "compositions", "mini", tmp_path / "other", world=WORLD.model_copy(update={"seed": 8})
    )
    assert json.loads((drawn / "manifest.json").read_text())["digest"] == again.digest != other.digest


def test_a_folder_needs_one_kind_and_may_lack_the_others(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    with pytest.raises(
        RegroupError, match=r"sources\.compositions\.root: .* has no add_att\.json or add_obj"
    ):
        make_source("compositions", "local", tmp_path / "raw", root=mine)
    (mine / "swap_obj.json").write_text("{}")
    (mine / "notes.txt").write_text("")
    assert make_source("compositions", "local", tmp_path / "raw", root=mine).parts == ("swap_obj.json",)


def test_a_layout_that_asks_for_nothing_is_none() -> None:
    with pytest.raises(ValueError, match="needs `required`, or `any_of`"):
        SourceLayout(optional=("a",))
    with pytest.raises(ValueError, match="any_of: 'b' is not among `optional`"):
        SourceLayout(optional=("a",), any_of=("a", "b"))


def test_sugarcrepe_is_downloaded_file_by_file(
    tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [artefact.file for artefact in SOURCES.load("compositions").artefacts.values()]
    assert len(names) == 7
    for name in names:
        site.files[name] = json.dumps({"0": name}).encode()
    make_source("compositions", "download", Path("raw"), url=site.url)
    folder = Path("data/downloads/compositions")
    assert {path.name for path in folder.glob("*.json")} == set(names)
    assert json.loads((folder / "add_obj.json").read_text()) == {"0": "add_obj.json"}
    (folder / "swap_att.json").unlink()
    assert list(missing_artefacts("compositions", folder)) == ["sugarcrepe-swap-att"]
