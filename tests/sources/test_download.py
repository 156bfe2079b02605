"""Kind `download` from archives to a source, and the stage `weights`."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from regroup.errors import RegroupError
from regroup.sources.artefacts import Catalogue, load_catalogue
from regroup.sources.fetch import RECORD, read_record
from regroup.sources.make import make_source, unchanged_source
from regroup.sources.makers import MAKERS
from regroup.sources.manifest import raw_root
from regroup.sources.settings import SOURCES, Artefact, SourceLayout, WeightsParams
from regroup.sources.weights import fetch_weights

from .server import Site
from .test_pascal_context import document

COCO = {
    "annotations_trainval2017.zip": [
        *(
            f"annotations/{kind}_{split}2017.json"
            for kind in ("captions", "instances")
            for split in ("train", "val")
        ),
        "annotations/person_keypoints_val2017.json",
    ],
    "train2017.zip": ["train2017/1.jpg", "train2017/2.jpg"],
    "val2017.zip": ["val2017/3.jpg"],
    "stuffthingmaps_trainval2017.zip": ["train2017/1.png", "val2017/3.png"],
}


def packed(names: list[str], kind: str = "zip") -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, name)
    else:
        with tarfile.open(fileobj=file, mode="w") as archive_tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = len(name)
                archive_tar.addfile(info, io.BytesIO(name.encode()))
    return file.getvalue()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The project's folder, with a catalogue whose files may have any content."""
    none = {"md5": None, "sha1": None, "sha256": None}

    def unproven(artefacts: Mapping[str, Artefact]) -> dict[str, Artefact]:
        return {name: one.model_copy(update=none) for name, one in artefacts.items()}

    real = {name: SOURCES.load(name) for name in SOURCES.names}
    sources = {
        name: one.model_copy(update={"artefacts": unproven(one.artefacts)}) for name, one in real.items()
    }
    monkeypatch.setattr(SOURCES, "load", sources.__getitem__)
    catalogue = Catalogue(artefacts=unproven(load_catalogue().artefacts))
    monkeypatch.setattr("regroup.sources.weights.load_catalogue", lambda: catalogue)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def publish(site: Site, archives: Mapping[str, list[str]]) -> None:
    site.files |= {name: packed(names, name.rsplit(".", 1)[-1]) for name, names in archives.items()}


def test_coco_is_fetched_unpacked_and_used_in_place(small: Path, site: Site) -> None:
    publish(site, COCO)
    manifest = make_source("coco", "download", Path("raw/coco"), url=site.url)
    root = raw_root(Path("raw/coco"))
    assert root == Path("data/downloads/coco")  # not the absolute path: the same on every machine
    assert manifest.kind == "download"
    archived = {part for artefact in SOURCES.load("coco").artefacts.values() for part in artefact.parts}
    assert set(manifest.parts) == archived >= set(SOURCES.load("coco").required)
    assert files(root) == [
        ".lock",
        "annotations/captions_train2017.json",
        "annotations/captions_val2017.json",
        "annotations/instances_train2017.json",
        "annotations/instances_val2017.json",
        f"archives/{RECORD}",
        "stuffthingmaps/train2017/1.png",
        "stuffthingmaps/val2017/3.png",
        "train2017/1.jpg",
        "train2017/2.jpg",
        "val2017/3.jpg",
    ]
    assert {came.file for came in read_record(root / "archives").values()} == set(COCO)

    site.asked.clear()
    assert make_source("coco", "download", Path("raw/coco"), url=site.url) == manifest
    assert site.asked == []


def test_a_download_that_is_not_on_this_machine_stays_described(small: Path, site: Site) -> None:
    """Its results may have been pulled; 20 GB are not fetched again to find that they have not changed."""
    publish(site, COCO)
    manifest = make_source("coco", "download", Path("raw/coco"), url=site.url)
    assert unchanged_source("coco", "download", Path("raw/coco"), root=None) == manifest
    (small / "data/downloads/coco/val2017/3.jpg").unlink()
    assert unchanged_source("coco", "download", Path("raw/coco"), root=None) is None
    shutil.rmtree("data/downloads/coco")
    assert unchanged_source("coco", "download", Path("raw/coco"), root=None) == manifest
    with pytest.raises(RegroupError, match="no such folder data/downloads/coco"):
        raw_root(Path("raw/coco"))


def test_only_what_is_missing_is_fetched(small: Path, site: Site) -> None:
    publish(site, COCO)
    make_source("coco", "download", Path("raw"), url=site.url, keep_archives=True)
    root = Path("data/downloads/coco")
    (root / "val2017/3.jpg").unlink()
    (root / "archives/val2017.zip").unlink()
    site.asked.clear()
    make_source("coco", "download", Path("raw"), url=site.url, keep_archives=True)
    assert [path for path, _ in site.asked] == ["val2017.zip"]
    assert (root / "archives/train2017.zip").is_file()


def test_your_own_folder_is_only_looked_at(small: Path, site: Site) -> None:
    mine = small / "mine"
    publish(site, COCO)
    make_source("coco", "download", Path("raw"), root=mine, url=site.url)
    for path in (mine / ".lock", mine / "archives" / RECORD):
        path.unlink()
    (mine / "archives").rmdir()
    mine.chmod(0o555)
    before = files(mine)
    make_source("coco", "download", Path("raw"), root=mine, url="http://127.0.0.1:9/nothing")
    assert files(mine) == before
    assert raw_root(Path("raw")) == mine


def test_archives_in_a_folder_stay_there(small: Path) -> None:
    had = small / "had"
    had.mkdir()
    parts = (
        "ImageSets/Segmentation/val.txt",
        "JPEGImages/a.jpg",
        "SegmentationClass/a.png",
        "Annotations/a.xml",
    )
    content = packed([f"VOCdevkit/VOC2012/{part}" for part in parts], "tar")
    (had / "VOCtrainval_11-May-2012.tar").write_bytes(content)
    make_source("voc12", "download", Path("raw"), url=str(had))
    assert files(had) == ["VOCtrainval_11-May-2012.tar"]
    root = raw_root(Path("raw"))
    assert (root / "VOCdevkit/VOC2012/SegmentationClass/a.png").is_file()
    assert not (root / "VOCdevkit/VOC2012/Annotations").exists()


def test_contexts_masks_are_made(small: Path, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    publish(site, {"VOCtrainval_03-May-2010.tar": ["VOCdevkit/VOC2010/JPEGImages/2008_000001.jpg"]})
    site.files["trainval_merged.json"] = json.dumps(document()).encode()
    make_source("context", "download", Path("raw"), url=site.url)
    voc = raw_root(Path("raw")) / "VOCdevkit/VOC2010"
    assert len(files(voc / "SegmentationClassContext")) == 3
    assert (voc / "ImageSets/SegmentationContext/val.txt").read_text() == "2008_000001\n"
    assert "PASCAL Context masks: 2 train, 1 val" in capsys.readouterr().out


def test_a_failed_download_leaves_the_earlier_source(small: Path, site: Site) -> None:
    publish(site, COCO)
    make_source("coco", "download", Path("raw"), url=site.url)
    before = (small / "raw/manifest.json").read_bytes()
    (small / "data/downloads/coco/val2017/3.jpg").unlink()
    site.files["val2017.zip"] = packed(["../val2017/3.jpg"])
    with pytest.raises(RegroupError, match=r"val2017: cannot be downloaded .*counts as right"):
        make_source("coco", "download", Path("raw"), url=site.url)
    assert (small / "raw/manifest.json").read_bytes() == before


WITHOUT_ARCHIVE = {
    ("coco", "annotations/dataset_coco.json"),
    *(("compositions", f"{kind}.json") for kind in ("count", "object", "order", "size", "swap")),
}
"""Parts that nothing is downloaded for: put there by hand, or only drawn."""


def test_every_part_that_a_layout_needs_is_in_an_archive() -> None:
    downloaded = {name for name in SOURCES.names if SOURCES.load(name).artefacts}
    assert {"ade", "coco", "compositions", "context", "context459", "voc12"} <= downloaded
    for name, source in ((name, SOURCES.load(name)) for name in SOURCES.names):
        parts = [part for artefact in source.artefacts.values() for part in artefact.parts]
        for needed in (*source.required, *source.optional) if parts else ():
            there = any(needed == part or needed.startswith(f"{part}/") for part in parts)
            assert there != ((name, needed) in WITHOUT_ARCHIVE), needed


def test_an_artefact_is_somewhere_and_becomes_part_of_its_source() -> None:
    with pytest.raises(ValueError, match="needs either `urls` or `hub`"):
        Artefact(file="a")
    with pytest.raises(ValueError, match=r"artefacts\.idle: needs `unpack`, or `made_by` and `makes`"):
        SourceLayout(required=("a",), artefacts={"idle": Artefact(file="a", urls=("http://a",))})
    with pytest.raises(ValueError, match="`makes` says what is made, and `made_by` by which module"):
        Artefact(file="a", urls=("http://a",), makes=("b",))
    made_by = {a.made_by for name in SOURCES.names for a in SOURCES.load(name).artefacts.values()}
    assert made_by - {None} == set(MAKERS.names)


# --- weights


def test_weights_are_copied_from_where_they_were_fetched_to(small: Path, site: Site) -> None:
    names = ("dino-vits16", "nltk-tagger")
    site.files["dino_deitsmall16_pretrain.pth"] = dino = b"\x80\x02 a pickle"
    site.files["averaged_perceptron_tagger_eng.zip"] = tagger = packed(["tagger.json"])
    out = Path("data/full/weights")
    out.mkdir(parents=True)
    (out / "stale.pth").write_bytes(b"of an earlier run")
    paths = fetch_weights(WeightsParams(artefacts=names, url=site.url), out)
    assert {name: path.read_bytes() for name, path in paths.items()} == {
        "dino-vits16": dino,
        "nltk-tagger": tagger,
    }
    assert files(out) == [
        "averaged_perceptron_tagger_eng.zip",
        "dino_deitsmall16_pretrain.pth",
        RECORD,
    ]
    site.files.clear()
    (out / RECORD).unlink()
    fetch_weights(WeightsParams(artefacts=names, url=site.url), out)  # they are in data/downloads/weights
    assert sorted(read_record(out)) == sorted(names)


def test_a_profile_without_weights_has_an_empty_record(small: Path) -> None:
    assert fetch_weights(WeightsParams(), Path("out")) == {}
    assert files(Path("out")) == [RECORD]
    assert not Path("data").exists()


@pytest.mark.parametrize("name", ["groupvit", "coco-train2017"])
def test_unknown_weights_are_named(small: Path, name: str) -> None:
    with pytest.raises(RegroupError, match=rf"weights\.artefacts: no weights '{name}'; known: groupvit-gcc"):
        fetch_weights(WeightsParams(artefacts=(name,)), Path("out"))
