"""The `shards` stage: images and captions as WebDataset tars whose bytes depend on nothing but the input."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from regroup.captions.coco import (
    CAPTIONS_JSON,
    IMAGES_FOLDER,
    CaptionCorpus,
    CaptionedImage,
    check_images,
    read_coco_captions,
)
from regroup.captions.images import resize_short_side
from regroup.captions.index import CAPTIONS, INDEX, SCHEMA
from regroup.captions.settings import ShardsParams
from regroup.captions.tars import TarWriter
from regroup.errors import RegroupError
from regroup.io import atomic_path
from regroup.pictures import BrokenImageError

_COMMON = (b"count", CAPTIONS, b"packing")
"""Keys of the metadata of a part: what has to be the same in all parts that are merged."""

_SUFFIXES = {".png": ".png", ".webp": ".webp"}  # anything else is taken for JPEG; readers go by the content


@dataclass(frozen=True)
class ShardsReport:
    """What was packed; `unreadable` names image files that could not be resized and went in as they are."""

    shards: int
    images: int
    captions: int
    images_without_caption: int
    bytes: int
    unreadable: tuple[str, ...]
    seconds: float

    def metrics(self) -> dict[str, float]:
        """Numbers for the tracker, by name."""
        return {
            "shards": float(self.shards),
            "images": float(self.images),
            "captions": float(self.captions),
            "images_without_caption": float(self.images_without_caption),
            "unreadable_images": float(len(self.unreadable)),
            "bytes": float(self.bytes),
            "images_per_second": self.images / max(self.seconds, 1e-9),
        }


@dataclass(frozen=True)
class ShardPlan:
    """What goes into shard `number` of `count`.

    `first_row` is the row of its first caption in `labels.parquet`; `captions` the digest of them all.
    """

    number: int
    count: int
    images: tuple[CaptionedImage, ...]
    first_row: int
    captions: str


@dataclass(frozen=True)
class _Entry:
    """Where a sample's image lies in its shard, and its size in pixels."""

    key: str
    image: CaptionedImage
    offset: int
    size: int
    width: int
    height: int


def shard_name(number: int) -> str:
    """File name of shard `number`."""
    return f"train-{number:05d}.tar"


def plan_shards(corpus: CaptionCorpus, params: ShardsParams) -> list[ShardPlan]:
    """The shards of a corpus: consecutive images by id."""
    plans, row, digest = [], 0, corpus.digest
    starts = range(0, len(corpus.images), params.images_per_shard)
    for number, start in enumerate(starts):
        images = corpus.images[start : start + params.images_per_shard]
        plans.append(ShardPlan(number, len(starts), images, row, digest))
        row += sum(len(image.captions) for image in images)
    return plans


def build_shards(root: Path, out: Path, params: ShardsParams, *, progress: bool = False) -> ShardsReport:
    """Build every shard of the training split and the index.

    Args:
        root: a folder in COCO's layout: `annotations/captions_train2017.json` and `train2017/`.
        out: gets `train-00000.tar` ... and `index.parquet`.
        params: shard size, resizing, threads.
        progress: show a progress bar.

    Raises:
        RegroupError: bad captions, or images missing; nothing is written then.
    """
    started = time.perf_counter()
    corpus, images = open_corpus(root)
    plans = plan_shards(corpus, params)
    build = partial(build_shard, images=images, out=out, params=params)
    with tqdm(total=len(plans), unit="shard", disable=not progress) as bar:
        unreadable: list[str] = []
        # Threads, because reading, hashing, writing and resizing all leave the interpreter to others.
        with ThreadPoolExecutor(params.threads) as pool:
            for broken in pool.map(build, plans):
                unreadable += broken
                bar.update()
    index = merge_index(out)
    return ShardsReport(
        shards=len(plans),
        images=len(corpus.images),
        captions=sum(len(image.captions) for image in corpus.images),
        images_without_caption=sum(not image.captions for image in corpus.images),
        bytes=sum((out / name).stat().st_size for name in index["shard"].unique().to_pylist()),
        unreadable=tuple(unreadable),
        seconds=time.perf_counter() - started,
    )


def open_corpus(root: Path) -> tuple[CaptionCorpus, Path]:
    """The training split's captions and image folder, checked against each other.

    Raises:
        RegroupError: bad captions, images missing, or no image at all.
    """
    corpus, images = read_coco_captions(root / CAPTIONS_JSON), root / IMAGES_FOLDER
    check_images(corpus, images)
    if not corpus.images:
        raise RegroupError(f"{corpus.path}: images: there is no image")
    return corpus, images


def build_shard(plan: ShardPlan, *, images: Path, out: Path, params: ShardsParams) -> tuple[str, ...]:
    """Build one shard, and beside it its part of the index (`train-00000.parquet`).

    Shards may be built in any order, by any number of jobs; `merge_index` comes last.

    Args:
        plan: one of `plan_shards`.
        images: folder of the image files.
        out: folder of the shards.
        params: resizing.

    Returns:
        Names of files that could not be resized because they are no readable images; they are packed as they
        are, and whoever reads the shards counts them again.
    """
    path = out / shard_name(plan.number)
    part_path(path).unlink(missing_ok=True)  # a part that is there belongs to the shard that is there
    unreadable: list[str] = []
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        writer = TarWriter(file)
        entries = [_add(writer, image, images, params, unreadable) for image in plan.images]
        writer.close()
    _write_part(path, entries, plan, params, writer)
    return tuple(unreadable)


def part_path(shard: Path) -> Path:
    """Where a shard's part of the index lies until it is merged."""
    return shard.with_suffix(".parquet")


def merge_index(out: Path) -> pa.Table:
    """Merge the shards' parts into `index.parquet`; remove the parts, and what killed jobs left.

    Raises:
        RegroupError: a shard is missing or was not finished, a part is damaged, or the shards are of
            different plans or captions. Everything stays as it was then.
    """
    found = {path: _read_part(path) for path in sorted(out.glob("train-*.parquet"))}
    for key in _COMMON:
        if len(values := {table.schema.metadata[key].decode() for table in found.values()}) > 1:
            raise RegroupError(
                f"{out}: shards of different jobs are mixed ({key.decode()}: {', '.join(sorted(values))});"
                " build all of them alike in an empty folder"
            )
    count = next((int(table.schema.metadata[b"count"]) for table in found.values()), 0)
    parts = [part_path(out / shard_name(number)) for number in range(count)]
    missing = [path.name for path in parts if path not in found or not path.with_suffix(".tar").is_file()]
    if missing or not parts:
        raise RegroupError(
            f"{out}: {', '.join(missing) or 'every shard'} is missing; build it, then merge again"
        )
    for path in parts:
        shard, wanted = path.with_suffix(".tar"), found[path]["shard_bytes"][0].as_py()
        if (size := shard.stat().st_size) != wanted:
            raise RegroupError(f"{shard}: {size} bytes, its job wrote {wanted}; build it, then merge again")
    index = pa.concat_tables([found[path].replace_schema_metadata(None) for path in parts])
    index = index.replace_schema_metadata({CAPTIONS: found[parts[0]].schema.metadata[CAPTIONS]})
    with atomic_path(out / INDEX) as temporary:
        pq.write_table(index, temporary, compression="zstd")
    tars = {path.with_suffix(".tar") for path in parts}
    stale = set(out.glob("train-*.tar")) - tars  # left from an earlier, larger set
    for path in sorted({*found, *stale, *out.glob(".train-*.tmp"), *out.glob(f".{INDEX}.*.tmp")}):
        path.unlink(missing_ok=True)
    return index


def _read_part(path: Path) -> pa.Table:
    try:
        table = pq.read_table(path, schema=SCHEMA).replace_schema_metadata(pq.read_schema(path).metadata)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        reason = str(error).partition("\n")[0]
    else:
        if set(_COMMON) <= set(table.schema.metadata or {}) and len(table):
            return table
        reason = "it lacks what a job writes"
    raise RegroupError(
        f"{path}: not a part of a shard index ({reason}); remove it, build its shard again, then merge"
    )


def _add(
    writer: TarWriter, image: CaptionedImage, images: Path, params: ShardsParams, unreadable: list[str]
) -> _Entry:
    with open(f"{images}/{image.file_name}", "rb", buffering=0) as file:  # noqa: PTH123 (a third of the time)
        content = file.readall()
    width, height = image.width, image.height
    suffix = _SUFFIXES.get(PurePosixPath(image.file_name).suffix.lower(), ".jpg")
    if params.short_side is not None:
        try:
            resized = resize_short_side(content, params.short_side, jpeg_quality=params.jpeg_quality)
        except BrokenImageError:
            unreadable.append(image.file_name)
            resized = None
        if resized is not None:
            (content, width, height), suffix = resized, ".jpg"
    key = f"{image.id:012d}"
    sample = {
        "image_id": image.id,
        "file_name": image.file_name,
        "width": width,
        "height": height,
        "captions": [{"id": caption.id, "caption": caption.text} for caption in image.captions],
    }
    description = json.dumps(sample, ensure_ascii=False).encode()
    offset = writer.add([(f"{key}{suffix}", content), (f"{key}.json", description)])[0]
    return _Entry(key, image, offset, len(content), width, height)


def _write_part(
    shard: Path, entries: list[_Entry], plan: ShardPlan, params: ShardsParams, writer: TarWriter
) -> None:
    rows, row = [], plan.first_row
    for entry in entries:
        rows.append(
            {
                "shard": shard.name,
                "shard_bytes": writer.bytes,
                "shard_sha256": writer.sha256,
                "key": entry.key,
                "image_id": entry.image.id,
                "file_name": entry.image.file_name,
                "offset": entry.offset,
                "size": entry.size,
                "width": entry.width,
                "height": entry.height,
                "captions": len(entry.image.captions),
                "caption_row": row,
            }
        )
        row += len(entry.image.captions)
    packing = params.model_dump_json(include={"images_per_shard", "short_side", "jpeg_quality"})
    common = dict(zip(_COMMON, (str(plan.count), plan.captions, packing), strict=True))
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata(common))
    with atomic_path(part_path(shard)) as temporary:
        pq.write_table(table, temporary)
