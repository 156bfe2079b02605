"""Whether shards are what their index says."""

from __future__ import annotations

import json
import multiprocessing
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from regroup.captions.images import decode_rgb
from regroup.captions.index import INDEX, read_index
from regroup.captions.store import REMOTE, remote_url
from regroup.errors import RegroupError
from regroup.io import sha256
from regroup.pictures import BrokenImageError

Row = dict[str, Any]


@dataclass(frozen=True)
class VerifyReport:
    """What was checked and what is wrong, a line a fault, in the order of the shards."""

    shards: int
    samples: int
    problems: tuple[str, ...]


def verify_shards(
    folder: Path, *, decode: bool = False, processes: int = 1, progress: bool = False
) -> VerifyReport:
    """Check every shard of a folder against its `index.parquet`.

    Size and SHA-256 of each shard; that `webdataset`, as others read shards, finds the same samples with the
    same bytes as the index; that a sample's json tells the same image; with `decode` also that every image
    can be decoded. Tars that the index does not know are faults as well.

    Raises:
        RegroupError: there is no readable index, or the shards are elsewhere.
    """
    if (folder / REMOTE).is_file():
        raise RegroupError(
            f"{folder}: its shards are at {remote_url(folder)}, and each is checked when it is fetched; to"
            f" check them all, copy them and their {INDEX} into a folder and verify that"
        )
    rows: dict[str, list[Row]] = {}
    for row in read_index(folder / INDEX).to_pylist():
        rows.setdefault(row["shard"], []).append(row)
    problems: list[str] = []
    check = partial(check_shard, folder, decode=decode)
    with tqdm(total=len(rows), unit="shard", disable=not progress) as bar:
        for found in _map(check, list(rows.values()), processes):
            problems += found
            bar.update()
    strangers = sorted({path.name for path in folder.glob("*.tar")} - set(rows))
    problems += [f"{name}: not in {INDEX}" for name in strangers]
    return VerifyReport(len(rows), sum(map(len, rows.values())), tuple(problems))


def check_shard(folder: Path, rows: Sequence[Row], *, decode: bool = False) -> list[str]:
    """Faults of one shard, given its rows of the index."""
    name, path = rows[0]["shard"], folder / rows[0]["shard"]
    if not path.is_file():
        return [f"{name}: missing"]
    problems = []
    if (size := path.stat().st_size) != rows[0]["shard_bytes"]:
        problems.append(f"{name}: {size} bytes, the index says {rows[0]['shard_bytes']}")
    elif (digest := sha256(path)) != rows[0]["shard_sha256"]:
        problems.append(f"{name}: its SHA-256 is {digest}, the index says {rows[0]['shard_sha256']}")
    return problems + list(_check_samples(path, rows, decode))


def _check_samples(path: Path, rows: Sequence[Row], decode: bool) -> Iterator[str]:
    known, seen = {row["key"]: row for row in rows}, set()
    try:
        with path.open("rb") as file:
            for sample in _as_webdataset(path):
                key = sample["__key__"]
                seen.add(key)
                if key not in known:
                    yield f"{path.name}: {key}: not in {INDEX}"
                    continue
                file.seek(known[key]["offset"])
                image = file.read(known[key]["size"])
                yield from _check_sample(path, known[key], sample, image, decode)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield f"{path.name}: damaged after {len(seen)} samples ({error})"
    for key in (key for key in known if key not in seen):
        yield f"{path.name}: {key}: its image is not where the index says"


def _check_sample(
    path: Path, row: Row, sample: Mapping[str, Any], image: bytes, decode: bool
) -> Iterator[str]:
    key = row["key"]
    images = [content for kind, content in sample.items() if kind != "json" and not kind.startswith("__")]
    try:
        described = json.loads(sample["json"])["image_id"]
    except (KeyError, ValueError, TypeError):
        described = None
    if images != [image]:
        yield f"{path.name}: {key}: its image is not where the index says"
    elif described != row["image_id"]:
        yield f"{path.name}: {key}: its json is missing or of another image"
    elif decode:
        try:
            decode_rgb(image)
        except BrokenImageError as error:
            yield f"{path.name}: {key} ({row['file_name']}): {error}"


def _as_webdataset(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of a shard as `webdataset` reads them, which is how others will."""
    from webdataset.tariterators import group_by_keys, tar_file_expander  # slow to import: it takes torch

    with path.open("rb") as stream:
        yield from group_by_keys(tar_file_expander([{"url": path.name, "stream": stream}]))


def _map(check: partial[list[str]], rows: Sequence[Sequence[Row]], processes: int) -> Iterator[list[str]]:
    if min(processes, len(rows)) <= 1:
        yield from map(check, rows)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(check, rows)
