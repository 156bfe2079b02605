"""Shards: what is in them, that their bytes are settled, and that damage is seen."""

import gc
import io
import json
import random
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from regroup.captions.coco import read_coco_captions
from regroup.captions.index import INDEX, read_index
from regroup.captions.settings import ShardsParams
from regroup.captions.shards import build_shard, build_shards, merge_index, open_corpus, plan_shards
from regroup.captions.verify import verify_shards
from regroup.commands.shards import add_parser
from regroup.errors import RegroupError

from .conftest import real_folder, write_coco

SMALL = ShardsParams(images_per_shard=3)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def shards(coco: Path, tmp_path: Path) -> Path:
    build_shards(coco, tmp_path / "shards", SMALL)
    return tmp_path / "shards"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_every_image_bit_exact_with_its_captions(coco: Path, shards: Path) -> None:
    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    assert [Path(url).name for url in urls] == [f"train-{n:05d}.tar" for n in range(3)]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    gc.collect()  # webdataset leaves its files to the collector
    corpus = read_coco_captions(coco / "annotations" / "captions_train2017.json")
    assert len(samples) == len(corpus.images)
    for sample, image in zip(samples, corpus.images, strict=True):
        assert sample["jpg"] == (coco / "train2017" / image.file_name).read_bytes()
        described = json.loads(sample["json"])
        assert described == {
            "image_id": image.id,
            "file_name": image.file_name,
            "width": 24,
            "height": 16,
            "captions": [{"id": caption.id, "caption": caption.text} for caption in image.captions],
        }


def test_the_index_tells_where_each_image_lies(coco: Path, shards: Path) -> None:
    row = 0
    for entry in read_index(shards / INDEX).to_pylist():
        with (shards / entry["shard"]).open("rb") as file:
            file.seek(entry["offset"])
            assert file.read(entry["size"]) == (coco / "train2017" / entry["file_name"]).read_bytes()
        assert entry["caption_row"] == row
        row += entry["captions"]
    assert row == len(read_coco_captions(coco / "annotations" / "captions_train2017.json").captions)


def test_jobs_in_any_order_make_the_same_bytes(coco: Path, shards: Path, tmp_path: Path) -> None:
    corpus, images = open_corpus(coco)
    plans = plan_shards(corpus, SMALL)
    random.Random(1).shuffle(plans)
    for plan in plans:
        build_shard(plan, images=images, out=tmp_path / "jobs", params=SMALL)
    merge_index(tmp_path / "jobs")
    assert files(tmp_path / "jobs") == files(shards)


def test_a_job_that_failed_is_missed_when_the_index_is_merged(coco: Path, tmp_path: Path) -> None:
    corpus, images = open_corpus(coco)
    for missing in range(3):
        out = tmp_path / f"without-{missing}"
        for plan in plan_shards(corpus, SMALL):
            if plan.number != missing:
                build_shard(plan, images=images, out=out, params=SMALL)
        with pytest.raises(RegroupError, match=rf"train-0000{missing}\.parquet is missing"):
            merge_index(out)
        assert not (out / INDEX).exists()
    with pytest.raises(RegroupError, match="every shard is missing"):
        merge_index(tmp_path)


def test_shards_of_two_sizes_are_not_merged(coco: Path, tmp_path: Path) -> None:
    corpus, images = open_corpus(coco)
    other = ShardsParams(images_per_shard=4)
    build_shard(plan_shards(corpus, SMALL)[0], images=images, out=tmp_path / "jobs", params=SMALL)
    build_shard(plan_shards(corpus, other)[1], images=images, out=tmp_path / "jobs", params=other)
    with pytest.raises(RegroupError, match=r"mixed \(count: 2, 3\); build all"):
        merge_index(tmp_path / "jobs")


def test_shards_packed_otherwise_or_of_other_captions_are_not_merged(coco: Path, tmp_path: Path) -> None:
    corpus, images = open_corpus(coco)
    text = (coco / "annotations/captions_train2017.json").read_text()
    for out, params, other in (
        ("size", ShardsParams(images_per_shard=3, short_side=8), text),
        ("words", SMALL, text.replace("a dog.", "a cat.")),
    ):
        first, *rest = plan_shards(corpus, SMALL)
        build_shard(first, images=images, out=tmp_path / out, params=SMALL)
        (coco / "annotations/captions_train2017.json").write_text(other)
        for plan in plan_shards(open_corpus(coco)[0], params)[1:]:
            build_shard(plan, images=images, out=tmp_path / out, params=params)
        assert len(rest) == 2
        before = files(tmp_path / out)
        with pytest.raises(RegroupError, match=r"shards of different jobs are mixed \((packing|captions): "):
            merge_index(tmp_path / out)
        assert files(tmp_path / out) == before


@pytest.mark.parametrize("content", [b"", b"x\n", b"PAR1 but not really PAR1", None])
def test_a_broken_part_is_named_and_what_is_there_stays(
    coco: Path, tmp_path: Path, content: bytes | None
) -> None:
    corpus, images = open_corpus(coco)
    for plan in plan_shards(corpus, SMALL):
        build_shard(plan, images=images, out=tmp_path / "jobs", params=SMALL)
    part = tmp_path / "jobs/train-00001.parquet"
    if content is None:  # Parquet, of something else
        pq.write_table(pq.read_table(part).replace_schema_metadata(None), part)
    else:
        part.write_bytes(content)
    before = files(tmp_path / "jobs")
    with pytest.raises(RegroupError, match=r"train-00001\.parquet: not a part of a shard index .*build its"):
        merge_index(tmp_path / "jobs")
    assert files(tmp_path / "jobs") == before


def test_killed_jobs_leave_nothing_that_counts(coco: Path, shards: Path, tmp_path: Path) -> None:
    """Half a shard under a temporary name, and a new shard whose part was never written."""
    corpus, images = open_corpus(coco)
    out = tmp_path / "jobs"
    for plan in plan_shards(corpus, SMALL):
        build_shard(plan, images=images, out=out, params=SMALL)
    (out / ".train-00001.tar.k1ll3d.tmp").write_bytes(b"half")
    (out / ".train-00001.parquet.k1ll3d.tmp").write_bytes(b"half")
    (out / ".index.parquet.k1ll3d.tmp").write_bytes(b"half")
    whole = (out / "train-00001.tar").read_bytes()
    (out / "train-00001.tar").write_bytes(whole[:-512])
    with pytest.raises(RegroupError, match=r"train-00001\.tar: \d+ bytes, its job wrote \d+; build it, then"):
        merge_index(out)
    plan = plan_shards(corpus, SMALL)[1]
    with pytest.raises(FileNotFoundError):
        build_shard(plan, images=tmp_path / "gone", out=out, params=SMALL)
    with pytest.raises(RegroupError, match=r"train-00001\.parquet is missing"):
        merge_index(out)
    build_shard(plan, images=images, out=out, params=SMALL)
    merge_index(out)
    assert files(out) == files(shards)


def test_fewer_shards_than_before_leave_none_behind(coco: Path, shards: Path) -> None:
    build_shards(coco, shards, ShardsParams(images_per_shard=100))
    assert sorted(files(shards)) == [INDEX, "train-00000.tar"]


def test_a_shard_that_cannot_be_finished_leaves_nothing(coco: Path, tmp_path: Path) -> None:
    corpus, images = open_corpus(coco)
    (coco / "train2017" / corpus.images[2].file_name).unlink()
    with pytest.raises(FileNotFoundError):
        build_shard(plan_shards(corpus, SMALL)[0], images=images, out=tmp_path / "jobs", params=SMALL)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_resizing_shrinks_the_short_side_and_leaves_small_and_broken_files(tmp_path: Path) -> None:
    def encoded(size: tuple[int, int], mode: str = "RGB") -> bytes:
        file = io.BytesIO()
        Image.new(mode, size, 100).save(file, "JPEG", quality=70)
        return file.getvalue()

    originals = {1: encoded((64, 48)), 2: encoded((48, 64), "L"), 3: encoded((20, 50)), 4: b"no image"}
    root = write_coco(tmp_path / "coco", {n: ["a dog"] for n in originals}, originals)
    report = build_shards(root, tmp_path / "out", ShardsParams(short_side=24))
    assert report.unreadable == ("000000000004.jpg",)
    index = read_index(tmp_path / "out" / INDEX).to_pylist()
    with tarfile.open(tmp_path / "out" / "train-00000.tar") as tar:
        stored = {n: tar.extractfile(f"{n:012d}.jpg").read() for n in originals}
    assert [Image.open(io.BytesIO(stored[n])).size for n in (1, 2)] == [(32, 24), (24, 32)]
    assert [(entry["width"], entry["height"]) for entry in index[:2]] == [(32, 24), (24, 32)]
    assert (stored[3], stored[4]) == (originals[3], originals[4])


def test_missing_images_stop_the_build_before_it_starts(coco: Path, tmp_path: Path) -> None:
    next((coco / "train2017").iterdir()).unlink()
    with pytest.raises(RegroupError, match="1 of the 7 images"):
        build_shards(coco, tmp_path / "shards", SMALL)
    assert not (tmp_path / "shards").exists()


# --- verify


def test_whole_shards_have_no_faults(shards: Path) -> None:
    report = verify_shards(shards, decode=True)
    assert (report.shards, report.samples, report.problems) == (3, 7, ())


def test_every_kind_of_damage_is_named(shards: Path) -> None:
    one, two, three = sorted(shards.glob("*.tar"))
    content = bytearray(one.read_bytes())
    entry = read_index(shards / INDEX).to_pylist()[1]
    content[entry["offset"] + entry["size"] // 2] ^= 255
    one.write_bytes(content)
    two.write_bytes(two.read_bytes()[:1500])
    three.unlink()
    (shards / "train-00007.tar").write_bytes(b"")
    problems = "\n".join(verify_shards(shards).problems)
    assert "train-00000.tar: its SHA-256 is" in problems
    assert "train-00001.tar: 1500 bytes, the index says" in problems
    assert "train-00001.tar: 000000000014: its image is not where the index says" in problems
    assert "train-00002.tar: missing" in problems
    assert f"train-00007.tar: not in {INDEX}" in problems


def test_a_description_of_another_image_is_found(shards: Path) -> None:
    path = shards / "train-00001.tar"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"image_id": 14', b'"image_id": 15'))
    problems = "\n".join(verify_shards(shards).problems)
    assert "train-00001.tar: 000000000014: its json is missing or of another image" in problems


def test_a_truncated_image_is_found_by_decoding(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(file, "JPEG")
    root = write_coco(tmp_path / "coco", {8: ["a dog"]}, {8: file.getvalue()[:-300]})
    build_shards(root, tmp_path / "out", SMALL)
    assert verify_shards(tmp_path / "out").problems == ()
    (problem,) = verify_shards(tmp_path / "out", decode=True).problems
    assert "000000000008.jpg" in problem
    assert "truncated" in problem


def test_the_command_builds_merges_and_verifies(
    coco: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())

    def regroup(*words: object) -> int:
        arguments = parser.parse_args([str(word) for word in ("shards", *words)])
        return int(arguments.run(arguments))

    out = tmp_path / "jobs"
    for number in (2, 0, 1):
        assert regroup("build", coco, out, "--images-per-shard", 3, "--shard", number) == 0
    assert regroup("merge", out) == 0
    assert files(out) == files(shards)
    assert regroup("verify", out) == 0
    assert "3 shards, 7 samples: all as the index says" in capsys.readouterr().out
    (out / "train-00001.tar").unlink()
    assert regroup("verify", out) == 1
    with pytest.raises(RegroupError, match="there are 3 shards, 0 to 2"):
        regroup("build", coco, out, "--images-per-shard", 3, "--shard", 3)
    for option in ("--images-per-shard", "--short-side"):
        with pytest.raises((RegroupError, SystemExit)):
            regroup("build", coco, out, option, 0, "--shard", 0)


def test_real_images_come_back_bit_exact(tmp_path: Path) -> None:
    root = real_folder()
    report = build_shards(root, tmp_path, ShardsParams(images_per_shard=30))
    assert verify_shards(tmp_path, decode=True).problems == ()
    index = pq.read_table(tmp_path / INDEX).to_pylist()
    for entry in index:
        shard = np.memmap(tmp_path / entry["shard"], dtype=np.uint8, mode="r")
        stored = shard[entry["offset"] : entry["offset"] + entry["size"]].tobytes()
        assert stored == (root / "train2017" / entry["file_name"]).read_bytes()
        assert Image.open(io.BytesIO(stored)).size == (entry["width"], entry["height"])
    assert len(index) == report.images
