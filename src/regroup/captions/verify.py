"""Whether shards are what their index says."""

from __future__ import annotations

import json
import multiprocessing
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from regroup.captions.images import decode_rgb
from regroup.captions.index import INDEX, read_index
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

    Size and SHA-256 of each shard, every sample's place, and that its json tells the same image; with
    `decode` also that every image can be decoded. Tars that the index does not know are faults as well.

    Raises:
        RegroupError: there is no readable index.
    """
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
    places: dict[str, tuple[int, int]] = {}
    images: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, kind = member.name.partition(".")
                content = tar.extractfile(member)
                if kind == "json" and content is not None:
                    images[key] = json.loads(content.read())["image_id"]
                else:
                    places[key] = (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        yield f"{path.name}: damaged after {len(images)} samples ({error})"
    for row in rows:
        key = row["key"]
        if places.pop(key, None) != (row["offset"], row["size"]):
            yield f"{path.name}: {key}: its image is not where the index says"
        elif images.get(key) != row["image_id"]:
            yield f"{path.name}: {key}: its json is missing or of another image"
        elif decode:
            try:
                with path.open("rb") as file:
                    file.seek(row["offset"])
                    decode_rgb(file.read(row["size"]))
            except BrokenImageError as error:
                yield f"{path.name}: {key} ({row['file_name']}): {error}"
    for key in places:
        yield f"{path.name}: {key}: not in {INDEX}"


def _map(check: partial[list[str]], rows: Sequence[Sequence[Row]], processes: int) -> Iterator[list[str]]:
    if min(processes, len(rows)) <= 1:
        yield from map(check, rows)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(check, rows)
