"""Karpathy's `dataset_<name>.json`: images with `split` and `sentences`, read and checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from regroup.records import Faults, file_name_problem, read_document, wrong
from regroup.texts import text_problem

SPLIT_WORDS = ("train", "restval", "val", "test")


class Entry(NamedTuple):
    """An image of the file: what it is called, and its captions by id."""

    file_name: str
    captions: tuple[tuple[int, str], ...]
    record: Any
    where: str


def entries(file: Path, words: tuple[str, ...], faults: Faults) -> Iterator[Entry]:
    """The images whose `split` is one of some words, in the order of the file.

    Args:
        file: the JSON.
        words: of `SPLIT_WORDS`.
        faults: gets what is wrong with any image.
    """
    seen: dict[str, int] = {}
    for number, record in enumerate(read_document(file, "file of Karpathy's splits", "images")["images"]):
        where = f"images[{number}]"
        if (problem := _problem(record)) is not None:
            faults.add(f"{where}.{problem[0]}", problem[1])
            continue
        if record["split"] not in words:
            continue
        if record["filename"] in seen:
            faults.add(f"{where}.filename", f"{record['filename']} comes twice")
            continue
        seen[record["filename"]] = number
        texts = [sentence["raw"] for sentence in record["sentences"]]
        ids = [sentence.get("sentid", k) for k, sentence in enumerate(record["sentences"])]
        yield Entry(record["filename"], tuple(zip(ids, texts, strict=True)), record, where)


def _problem(record: Any) -> tuple[str, str] | None:
    """Key and fault of an image; None where all is well."""
    for key, kind in (("split", str), ("filename", str), ("sentences", list)):
        if problem := wrong(record, key, kind):
            return key, problem
    if record["split"] not in SPLIT_WORDS:
        return "split", f"is {record['split'][:40]!r}, none of {', '.join(SPLIT_WORDS)}"
    if problem := file_name_problem(record["filename"]):
        return "filename", problem
    for k, sentence in enumerate(record["sentences"]):
        if problem := wrong(sentence, "raw", str) or text_problem(sentence["raw"]):
            return f"sentences[{k}].raw", problem
        if "sentid" in sentence and (problem := wrong(sentence, "sentid", int)):
            return f"sentences[{k}].sentid", problem
    return None
