"""Caption files and tagger weights that are not what they should be."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regroup.captions.coco import check_images, read_coco_captions
from regroup.captions.weights import load_weights, parse_textblob
from regroup.errors import RegroupError

from .conftest import write_coco

CAPTION_FILE = Path("annotations", "captions_train2017.json")


def spoil(root: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    path = root / CAPTION_FILE
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_images_and_captions_come_in_the_order_of_their_ids(coco: Path) -> None:
    corpus = read_coco_captions(coco / CAPTION_FILE)
    assert [image.id for image in corpus.images] == [3, 5, 7, 9, 11, 14, 21]
    assert all(
        [caption.id for caption in image.captions] == sorted(caption.id for caption in image.captions)
        for image in corpus.images
    )
    assert corpus.images[4].captions == ()
    check_images(corpus, coco / "train2017")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("annotations"), "not a COCO caption file: no annotations"),
        (lambda d: d.update(images={}), "images: a COCO caption file has a list here"),
        (lambda d: d["annotations"][2].pop("caption"), r"annotations\[2\].caption: is missing"),
        (lambda d: d["annotations"][2].update(id="7"), r"annotations\[2\].id: is a str, not int"),
        (lambda d: d["annotations"][0].update(id=1), "caption id 1 comes twice"),
        (lambda d: d["annotations"][0].update(image_id=99), "image 99 is not among the images"),
        (lambda d: d["images"].append(d["images"][0]), "image id 9 comes twice"),
        (lambda d: d["images"][0].update(file_name="../../x.jpg"), "leaves the image folder"),
        (lambda d: d["images"][0].update(file_name="/etc/passwd"), "leaves the image folder"),
    ],
)
def test_a_bad_caption_file_is_named_with_the_place(
    coco: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = spoil(coco, change)
    with pytest.raises(RegroupError, match=message) as error:
        read_coco_captions(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]"])
def test_a_file_that_is_no_caption_json_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "captions.json").write_bytes(content)
    with pytest.raises(RegroupError, match=r"captions\.json"):
        read_coco_captions(tmp_path / "captions.json")


def test_images_of_the_json_that_are_not_on_disk_are_counted_and_named(coco: Path) -> None:
    corpus = read_coco_captions(coco / CAPTION_FILE)
    for image in (5, 21):
        (coco / "train2017" / f"{image:012d}.jpg").unlink()
    with pytest.raises(RegroupError, match=r"2 of the 7 images .*\(000000000005.jpg, 000000000021.jpg\)"):
        check_images(corpus, coco / "train2017")


def test_half_a_surrogate_pair_does_not_stop_the_run(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco", {1: ["a \ud83d dog \U0001f415"]})
    caption = read_coco_captions(root / CAPTION_FILE).captions[0]
    assert caption == "a \ufffd dog \U0001f415"


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("code ran",))


def test_weights_that_ask_for_code_are_refused_unrun(capsys: pytest.CaptureFixture[str]) -> None:
    for content in (pickle.dumps(Evil()), pickle.dumps(({}, {}, {1: Evil()}), protocol=2)):
        with pytest.raises(RegroupError, match=r"it asks for (builtins|__builtin__)\.print"):
            parse_textblob(Path("w.pickle"), content, "")
    assert capsys.readouterr().out == ""


def test_weights_of_another_checksum_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trontagger-0.1.0.pickle"
    path.write_bytes(pickle.dumps(({}, {}, {"NN"})))
    with pytest.raises(RegroupError, match="its SHA-256 is"):
        load_weights("textblob", path)


def test_nltk_weights_are_read_from_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "averaged_perceptron_tagger_eng"
    folder.mkdir()
    parts = {"weights": {"bias": {"NN": 1.0}}, "tagdict": {"the": "DT"}, "classes": ["NN", "DT"]}
    for part, value in parts.items():
        (folder / f"averaged_perceptron_tagger_eng.{part}.json").write_text(json.dumps(value))
    loaded = load_weights("nltk", tmp_path)
    assert (loaded.weights, loaded.tagdict) == (parts["weights"], parts["tagdict"])
    assert loaded.classes == ("DT", "NN")
    assert load_weights("nltk", folder).version == loaded.version


def test_missing_nltk_weights_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match=r"tagger_path.*download it, or set nouns.tagger to 'textblob'"):
        load_weights("nltk")
    with pytest.raises(RegroupError, match=r"averaged_perceptron_tagger_eng.weights.json: .*No such file"):
        load_weights("nltk", tmp_path)
    (tmp_path / "tagger.zip").write_bytes(b"PK")
    with pytest.raises(RegroupError, match=r"tagger\.zip: .* not 6025f5.*download the archive again"):
        load_weights("nltk", tmp_path / "tagger.zip")
