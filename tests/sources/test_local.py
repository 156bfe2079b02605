"""Kind `local`: the user's folder is used in place, and what is wrong with it is said."""

import hashlib
import json
from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.sources.make import make_source
from regroup.sources.manifest import raw_root


def _coco(root: Path) -> Path:
    (root / "annotations").mkdir(parents=True)
    (root / "annotations/captions_train2017.json").write_text("{}")
    (root / "train2017").mkdir()
    (root / "train2017/000000000009.jpg").write_bytes(b"abc")
    (root / "other").mkdir()
    (root / "other/unrelated.bin").write_bytes(b"x" * 99)
    return root


def test_local_points_at_the_folder_and_counts_only_its_parts(tmp_path: Path) -> None:
    root = _coco(tmp_path / "mine")
    before = sorted(root.rglob("*"))
    manifest = make_source("coco", "local", tmp_path / "raw/coco", root=root)
    assert raw_root(tmp_path / "raw/coco") == root
    assert (manifest.files, manifest.bytes) == (2, 5)
    assert manifest.parts == ("annotations/captions_train2017.json", "train2017")
    assert sorted(root.rglob("*")) == before
    assert [p.name for p in (tmp_path / "raw/coco").iterdir()] == ["manifest.json"]
    caption, image = (hashlib.sha256(content).hexdigest() for content in (b"{}", b"abc"))
    expected = f"annotations/captions_train2017.json\0{caption}\ntrain2017/000000000009.jpg\0{image}\n"
    assert manifest.digest == hashlib.sha256(expected.encode()).hexdigest()


def test_an_edited_annotation_changes_the_digest(tmp_path: Path) -> None:
    root = _coco(tmp_path / "mine")
    first = make_source("coco", "local", tmp_path / "raw", root=root)
    (root / "annotations/captions_train2017.json").write_text("[]")
    assert make_source("coco", "local", tmp_path / "raw", root=root).digest != first.digest


def test_missing_parts_are_named_with_key_and_folder(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    (root / "train2017").mkdir(parents=True)
    with pytest.raises(
        RegroupError, match=r"^sources\.coco\.root: .*mine has no annotations/captions_train2017"
    ):
        make_source("coco", "local", tmp_path / "raw", root=root)
    root = _coco(tmp_path / "second")
    (root / "train2017/000000000009.jpg").unlink()
    with pytest.raises(RegroupError, match=r"has no train2017 \(missing or empty\)"):
        make_source("coco", "local", tmp_path / "raw", root=root)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("name", ["voc12", "context", "ade"])
def test_wrong_archive_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RegroupError, match=rf"^sources\.{name}\.root: "):
        make_source(name, "local", tmp_path / "raw", root=_coco(tmp_path / "mine"))  # type: ignore[arg-type]


def test_no_folder_and_no_root(tmp_path: Path) -> None:
    with pytest.raises(RegroupError, match=r"^sources\.ade\.root: no such folder .*gone"):
        make_source("ade", "local", tmp_path / "raw", root=tmp_path / "gone")
    with pytest.raises(RegroupError, match=r"^sources\.ade\.root: not set"):
        make_source("ade", "local", tmp_path / "raw")


def test_a_failed_run_leaves_the_earlier_source(tmp_path: Path) -> None:
    make_source("coco", "local", tmp_path / "raw", root=_coco(tmp_path / "mine"))
    with pytest.raises(RegroupError):
        make_source("coco", "local", tmp_path / "raw", root=tmp_path / "gone")
    assert raw_root(tmp_path / "raw") == tmp_path / "mine"


def test_raw_root_of_a_folder_that_has_gone_or_is_no_source(tmp_path: Path) -> None:
    root = _coco(tmp_path / "mine")
    make_source("coco", "local", tmp_path / "raw", root=root)
    root.rename(tmp_path / "moved")
    with pytest.raises(RegroupError, match=r"sources\.coco\.root"):
        raw_root(tmp_path / "raw")
    with pytest.raises(RegroupError, match=r"manifest\.json: no such file"):
        raw_root(tmp_path)
    content = json.loads((tmp_path / "raw/manifest.json").read_text())
    (tmp_path / "raw/manifest.json").write_text(json.dumps(content | {"rot": 1}))
    with pytest.raises(RegroupError, match=r"manifest\.json: rot: "):
        raw_root(tmp_path / "raw")
