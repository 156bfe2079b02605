from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regroup.cli import main
from regroup.errors import RegroupError
from regroup.model import GroupViT, save_checkpoint
from regroup.segmentation.segment import Segmented, colours, overlay, segment_images, unknown_names
from regroup.segmentation.settings import InferenceParams

SMALL = InferenceParams(short_side=48, window=48, stride=24)


@pytest.fixture
def photos(tmp_path: Path, images: list[np.ndarray]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(images[:3]):
        Image.fromarray(image).save(folder / f"p{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path, model: GroupViT) -> Path:
    save_checkpoint(model, tmp_path / "checkpoint")
    return tmp_path / "checkpoint"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["segment", *map(str, arguments)])
    return int(end.value.code or 0)


def listed(folder: Path) -> list[str]:
    """Names of the files that are not hidden."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_folder_of_images(photos: Path, checkpoint: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "out"
    code = run(
        photos, "--classes", "dog, red car,sky", "--background", "0.3", "--checkpoint", checkpoint,
        "--short-side", 48, "--out", out,
    )  # fmt: skip
    assert code == 0
    kinds = ("-mask.png", "-overlay.png", "-segments.png", ".json")
    assert listed(out) == sorted(f"p{i}{kind}" for i in range(3) for kind in kinds)
    assert capsys.readouterr().out.count(" -> ") == 3
    for number, (height, width) in enumerate([(60, 90), (91, 61), (75, 75)]):
        content = json.loads((out / f"p{number}.json").read_text())
        mask = np.array(Image.open(out / f"p{number}-mask.png"))
        assert content["classes"] == ["background", "dog", "red car", "sky"]
        assert mask.shape == (height, width) == (content["height"], content["width"])
        counts = {content["classes"][i]: int((mask == i).sum()) for i in np.unique(mask)}
        assert {area["name"]: area["pixels"] for area in content["areas"]} == counts
        assert sum(area["share"] for area in content["areas"]) == pytest.approx(1)
        with Image.open(out / f"p{number}-overlay.png") as picture:
            assert picture.height > height, "the legend stands below"


def test_paths_from_standard_input_in_the_same_bytes(
    photos: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outs = []
    for number in range(2):
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{photos / 'p1.png'}\n\n{photos / 'p0.png'}\n"))
        outs.append(tmp_path / f"out{number}")
        assert (
            run(
                "-", "--classes", "dog,sky", "--checkpoint", checkpoint, "--short-side", 48, "--out", outs[-1]
            )
            == 0
        )
    files = listed(outs[0])
    assert len(files) == 8
    assert all((outs[0] / name).read_bytes() == (outs[1] / name).read_bytes() for name in files)
    assert json.loads((outs[0] / "p0.json").read_text())["classes"] == ["dog", "sky"]


@pytest.mark.parametrize(
    ("given", "classes", "complaint"),
    [
        (["p0.png"], "", "--classes: is empty"),
        (["p0.png"], "dog,,sky", "--classes: a class name is empty"),
        (["p0.png"], "red car,Red  Car", "'red car' and 'Red  Car' are one to the model"),
        (["p0.png"], "dog,cat,dog", "--classes: class named twice: dog"),
        (["absent.png"], "dog", "absent.png: no such image"),
        (["notes.txt"], "dog", "notes.txt: not a readable image"),
        (["p0.png", "sub/p0.png"], "dog", "would overwrite the files of"),
        (["empty"], "dog", "no images"),
    ],
)
def test_bad_input_is_one_message(
    photos: Path, checkpoint: Path, capsys, given: list[str], classes: str, complaint: str
) -> None:
    (photos / "empty").mkdir()
    (photos / "sub").mkdir()
    (photos / "sub" / "p0.png").write_bytes((photos / "p0.png").read_bytes())
    paths = [photos / name for name in given]
    assert run(*paths, "--classes", classes, "--checkpoint", checkpoint, "--out", photos / "out") == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert error.startswith(("regroup segment: error: ", "usage: regroup segment"))
    assert "Traceback" not in error
    assert not (photos / "out").exists()


def test_labels_do_not_depend_on_the_images_beside(model: GroupViT, photos: Path) -> None:
    paths = [photos / f"p{i}.png" for i in range(3)]
    together = [r for _, r in segment_images(model, paths, ["dog", "sky"], SMALL, threshold=0.3, batch=4)]
    for path, result in zip(paths, together, strict=True):
        [(_, alone)] = segment_images(model, [path], ["dog", "sky"], SMALL, threshold=0.3)
        assert np.array_equal(alone.labels, result.labels)
        assert np.array_equal(alone.segments, result.segments)
        assert sum(result.areas().values()) == result.labels.size


def test_who_takes_one_image_and_stops_still_has_gradients(model: GroupViT, photos: Path) -> None:
    training = model.training
    paths = [photos / f"p{i}.png" for i in range(3)]
    results = segment_images(model, paths, ["dog", "sky"], SMALL, threshold=0.3, batch=1)
    next(results)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    results.close()
    assert model.training is training


def test_segments_are_whole_within_a_label(model: GroupViT, photos: Path) -> None:
    """One window: every segment has one label, so labels never cut through a segment."""
    params = InferenceParams(short_side=48, window=500, stride=500)
    [(_, result)] = segment_images(model, [photos / "p2.png"], ["dog", "sky", "sea"], params, threshold=None)
    pixels = np.zeros((8, 3), dtype=int)
    np.add.at(pixels, (result.segments, result.labels), 1)
    present = pixels.sum(1) > 0
    assert present.sum() > 1
    # enlarged by two rules, so only pixels on outlines may differ
    assert (pixels.max(1)[present] / pixels.sum(1)[present]).min() > 0.7


def test_the_overlay_shows_the_classes_colours(model: GroupViT, photos: Path) -> None:
    [(_, result)] = segment_images(model, [photos / "p0.png"], ["dog", "sky"], SMALL, threshold=None)
    table = colours(2, background=False)
    picture = np.asarray(overlay(result, opacity=1.0))
    height, width = result.labels.shape
    inside = (picture[:height, :width] == table[result.labels]).all(-1)
    outline = (picture[:height, :width] == 255).all(-1)
    assert (inside | outline).all()
    legend = picture[height:].reshape(-1, 3)
    for name in result.areas():
        assert (legend == table[result.names.index(name)]).all(-1).sum() >= 100


def test_words_that_a_compact_checkpoint_never_saw_are_named(model: GroupViT) -> None:
    from dataclasses import replace

    from regroup.captions.tokens import tokenize

    config = replace(model.config, text=replace(model.config.text, vocabulary=64))
    compact = GroupViT(config, generator=torch.Generator().manual_seed(0))
    compact.set_tokens(tokenize(["a photo of a red dog."]).ravel())
    assert unknown_names(compact, ["dog", "zebra", "red dog", "dog house"]) == ["zebra", "dog house"]
    assert unknown_names(model, ["zebra"]) == []


def test_more_classes_than_a_mask_can_hold(model: GroupViT, photos: Path) -> None:
    with pytest.raises(RegroupError, match="255 names, but a mask holds no more than 254"):
        list(segment_images(model, [photos / "p0.png"], [f"c{i}" for i in range(255)], SMALL, threshold=None))


def segment(checkpoint: Path, *words: object) -> int:
    return run(*words, "--classes", "dog,sky", "--checkpoint", checkpoint, "--short-side", 48)


def test_one_bad_picture_does_not_stop_the_others(
    photos: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "p1.png").write_bytes((photos / "p1.png").read_bytes()[:60])
    (photos / "empty.jpg").write_bytes(b"")
    assert segment(checkpoint, photos, photos / "absent.png", "--out", tmp_path / "out") == 1
    assert [name for name in listed(tmp_path / "out") if "mask" in name] == ["p0-mask.png", "p2-mask.png"]
    said = capsys.readouterr()
    assert "2 segmented" in said.out
    summary = said.out.splitlines()[-1]
    for name, reason in (("p1.png", "no"), ("empty.jpg", "the file is empty"), ("absent.png", "no such")):
        assert f"{name}: {reason}" in said.err
        assert name in summary


def test_pictures_in_a_list_may_be_pipes_or_links_to_nowhere(
    photos: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(photos / "pipe.png")
    (photos / "loop.png").symlink_to("loop.png")
    names = ("pipe.png", "loop.png", "p0.png", "p0.png/x.png", "a" * 300 + ".png")
    assert segment(checkpoint, *(photos / name for name in names), "--out", tmp_path / "out") == 1
    assert listed(tmp_path / "out") == ["p0-mask.png", "p0-overlay.png", "p0-segments.png", "p0.json"]
    assert capsys.readouterr().err.count("error: ") == 4


def test_names_that_are_not_utf8(
    photos: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (photos / "p0.png").rename(photos / name)
    assert segment(checkpoint, photos, "--out", tmp_path / "folder") == 0
    assert json.loads((tmp_path / "folder" / f"{name[:-4]}.json").read_text())["image"] == name
    listing = b"\0".join(os.fsencode(photos / one) for one in (name, "p1.png"))
    for number, content in enumerate((listing, listing.replace(b"\0", b"\n"))):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert segment(checkpoint, "-", "--out", tmp_path / f"list{number}") == 0
        assert len(listed(tmp_path / f"list{number}")) == 8


def test_inputs_and_files_of_others_are_not_overwritten(
    photos: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "p0-mask.png").write_bytes((photos / "p1.png").read_bytes())
    (photos / "p2.json").write_text('{"my": "annotations"}')
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    assert segment(checkpoint, photos, "--out", photos) == 2
    assert "p0-mask.png is one of the images" in capsys.readouterr().err
    assert segment(checkpoint, photos / "p2.png", "--out", photos) == 2
    assert "did not make, or that were changed since, and would overwrite: p2.json" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == before


def test_the_same_folder_again(photos: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the command made there is neither an input nor in the way, until somebody edits it."""
    assert segment(checkpoint, photos, "--out", photos) == 0
    names = listed(photos)
    assert segment(checkpoint, photos, "--out", photos, "--top-k", 1) == 0
    assert listed(photos) == names
    Image.new("L", (9, 9)).save(photos / "p1-mask.png")
    assert segment(checkpoint, photos / "p1.png", "--out", photos) == 2
    assert "p1-mask.png" in capsys.readouterr().err
    with Image.open(photos / "p1-mask.png") as mask:
        assert mask.size == (9, 9)


def test_images_of_one_stem_get_files_of_their_own(photos: Path, checkpoint: Path, tmp_path: Path) -> None:
    Image.open(photos / "p0.png").convert("RGB").save(photos / "p0.jpg")
    assert segment(checkpoint, photos, photos / "p1.png", "--out", tmp_path / "out") == 0
    masks = [name for name in listed(tmp_path / "out") if name.endswith(".json")]
    assert masks == ["p0.jpg.json", "p0.png.json", "p1.json", "p2.json"]


def test_a_name_as_long_as_names_may_be(photos: Path, checkpoint: Path, tmp_path: Path) -> None:
    for letter in "ab":
        (photos / f"{'x' * 245}{letter}.png").write_bytes((photos / "p0.png").read_bytes())
    assert segment(checkpoint, photos, "--out", tmp_path / "out") == 0
    assert len(listed(tmp_path / "out")) == 5 * 4


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--background", "95"], "argument --background: '95' is not possible: a number from 0 to 1"),
        (["--background", "nan"], "a number from 0 to 1"),
        (["--window", "0"], "a whole number from 1 to 8,192"),
        (["--window", "4"], "a patch of the model, 8 pixels, must fit in"),
        (["--short-side", "4000", "--window", "48", "--stride", "1"], "windows in a square image"),
        (["--window", "48", "--stride", "49"], "`stride` is larger than `window`"),
        (["--classes", "dog,Background", "--background"], "`background` is what --background names"),
        (["--classes", "caf\udce9"], "is not UTF-8"),
        (["--classes", ",".join(f"c{k}" for k in range(255))], "a mask holds no more than 254"),
        (["--checkpoint", "absent"], "absent"),
        (["--out", ""], "argument --out: is empty"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(
    photos: Path,
    checkpoint: Path,
    words: list[str],
    complaint: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(photos)
    given = {"--classes": "dog,sky", "--checkpoint": str(checkpoint), "--short-side": "48"}
    rest = [word for key, value in given.items() if key not in words for word in (key, value)]
    assert run(photos, *words, *rest) == 2
    assert complaint in capsys.readouterr().err
    assert not (photos / "segmented").exists()


def test_a_disk_that_is_full_is_one_message(
    photos: Path,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(file: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert segment(checkpoint, photos, "--out", tmp_path / "out") == 2
    assert "p0-overlay.png: no space left on the disk" in capsys.readouterr().err
    assert listed(tmp_path / "out") == []


def test_a_tall_overlay_has_no_seams() -> None:
    image = np.full((700, 8, 3), 200, dtype=np.uint8)
    labels = np.ones((700, 8), dtype=np.uint8)
    result = Segmented(image, labels, labels, ("background", "dog"))
    painted = np.asarray(overlay(result))[:700, :8]
    tint = colours(2, background=True)[1]
    assert np.abs(painted - (0.45 * 200 + 0.55 * tint)).max() <= 0.5
