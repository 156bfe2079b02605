"""Kind `local`: the user's folder is used in place, and what is wrong with it is said."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from regroup import io
from regroup.errors import RegroupError
from regroup.sources import listing
from regroup.sources.make import make_source, unchanged_source
from regroup.sources.manifest import digests_file, raw_root


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
        make_source(name, "local", tmp_path / "raw", root=_coco(tmp_path / "mine"))


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


def _edit_annotation(root: Path) -> None:
    (root / "annotations/captions_train2017.json").write_text("[]")


def _edit_picture(root: Path) -> None:
    (root / "train2017/000000000009.jpg").write_bytes(b"xyz")


def _edit_picture_and_hide_it(root: Path) -> None:
    path = root / "train2017/000000000009.jpg"
    stat = path.stat()
    path.write_bytes(b"xyz")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _add_picture(root: Path) -> None:
    (root / "train2017/10.jpg").write_bytes(b"")


def _add_part(root: Path) -> None:
    (root / "val2017").mkdir()
    (root / "val2017/1.jpg").write_bytes(b"a")


def _add_picture_behind_a_link(root: Path) -> None:
    (root / "elsewhere").mkdir()
    (root / "elsewhere/1.jpg").write_bytes(b"a")
    (root / "train2017/more").symlink_to(root / "elsewhere")


@pytest.mark.parametrize(
    "edit",
    [
        _edit_annotation,
        _edit_picture,
        _edit_picture_and_hide_it,
        _add_picture,
        _add_part,
        _add_picture_behind_a_link,
    ],
)
def test_any_change_in_the_folder_is_seen(tmp_path: Path, edit: Callable[[Path], None]) -> None:
    root, raw = _coco(tmp_path / "mine"), tmp_path / "raw"
    first = make_source("coco", "local", raw, root=root)
    assert unchanged_source("coco", "local", raw, root=root) == first
    edit(root)
    with pytest.raises(RegroupError, match=r"mine has changed since .*manifest\.json"):
        raw_root(raw)
    assert unchanged_source("coco", "local", raw, root=root) is None
    assert make_source("coco", "local", raw, root=root).digest != first.digest
    assert raw_root(raw) == root


def test_touched_files_are_the_same_data(tmp_path: Path) -> None:
    root, raw = _coco(tmp_path / "mine"), tmp_path / "raw"
    first = make_source("coco", "local", raw, root=root)
    for path in root.rglob("*.j*"):
        os.utime(path, (1, 1))
    assert unchanged_source("coco", "local", raw, root=root) == first


def test_files_are_read_again_only_if_they_look_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, raw = _coco(tmp_path / "mine"), tmp_path / "raw"
    monkeypatch.setattr(listing, "_UNSETTLED", 0)
    make_source("coco", "local", raw, root=root)
    read: list[Path] = []
    monkeypatch.setattr(listing, "sha256", lambda path: read.append(path) or io.sha256(path))
    raw_root(raw)
    assert read == []
    _edit_annotation(root)
    with pytest.raises(RegroupError):
        raw_root(raw)
    assert [path.name for path in read] == ["captions_train2017.json"]


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"0" * 64 + b"\n{}"])
def test_damaged_memories_are_made_again(tmp_path: Path, damage: bytes) -> None:
    root, raw = _coco(tmp_path / "mine"), tmp_path / "raw"
    make_source("coco", "local", raw, root=root)
    digests_file(raw).write_bytes(damage)
    assert raw_root(raw) == root


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    root = _coco(tmp_path / "mine")
    (root / "train2017/again").symlink_to(root / "train2017")
    (root / "train2017/nowhere").symlink_to(root / "gone")
    assert make_source("coco", "local", tmp_path / "raw", root=root).files == 2


def test_another_root_or_kind_is_another_source(tmp_path: Path) -> None:
    root, raw = _coco(tmp_path / "mine"), tmp_path / "raw"
    make_source("coco", "local", raw, root=root)
    assert unchanged_source("coco", "local", raw, root=_coco(tmp_path / "other")) is None
    assert unchanged_source("coco", "mini", raw, root=None) is None
    assert unchanged_source("coco", "local", raw, root=tmp_path / "gone") is None
