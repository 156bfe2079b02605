"""The `nouns` stage: every caption's nouns and phrases as one table, noun counts, curated vocabularies."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from regroup.captions.coco import CAPTIONS_JSON, CaptionCorpus, read_coco_captions
from regroup.captions.settings import NounsParams
from regroup.captions.strings import StringLists
from regroup.captions.table import LABELS, vocabulary_path
from regroup.captions.tagging import FoundNouns, find_nouns
from regroup.captions.weights import TaggerWeights, load_weights
from regroup.errors import RegroupError
from regroup.io import atomic_path, write_json

FREQUENCY = "noun_frequency.parquet"

_LIST = pa.list_(pa.dictionary(pa.int32(), pa.string()))
_ROW_GROUP = 65_536


@dataclass(frozen=True)
class NounsReport:
    """What extraction found, in numbers."""

    images: int
    captions: int
    distinct_captions: int
    captions_without_noun: int
    distinct_nouns: int
    distinct_phrases: int
    distinct_published_phrases: int
    vocabulary_sizes: dict[str, int]
    seconds: float

    def metrics(self) -> dict[str, float]:
        """Numbers for the tracker, by name."""
        counts = {
            "images": self.images,
            "captions": self.captions,
            "distinct_captions": self.distinct_captions,
            "captions_without_noun": self.captions_without_noun,
            "distinct_nouns": self.distinct_nouns,
            "distinct_phrases": self.distinct_phrases,
            "distinct_published_phrases": self.distinct_published_phrases,
            "captions_per_second": self.captions / max(self.seconds, 1e-9),
        }
        sizes = {f"vocabulary_{name}": size for name, size in self.vocabulary_sizes.items()}
        return {name: float(value) for name, value in {**counts, **sizes}.items()}


def extract_labels(root: Path, out: Path, params: NounsParams, *, progress: bool = False) -> NounsReport:
    """Tag the captions of the training split and write the label files.

    Args:
        root: a folder in COCO's layout; its `annotations/captions_train2017.json` is read.
        out: gets `labels.parquet`, `noun_frequency.parquet` and a `vocabulary-<name>.json` each.
        params: the tagger and the vocabularies' thresholds.
        progress: show a progress bar.

    Raises:
        RegroupError: bad captions or bad tagger weights; nothing is written then.
    """
    started = time.perf_counter()
    corpus = read_coco_captions(root / CAPTIONS_JSON)
    weights = load_weights(params.tagger, params.tagger_path)
    captions = corpus.captions
    if not captions:
        raise RegroupError(f"{corpus.path}: annotations: there is no caption")
    found = find_nouns(captions, weights, verbs=params.verbs, processes=params.processes, progress=progress)
    frequency = found.nouns.counts()
    write_labels(out / LABELS, corpus, found, weights, verbs=params.verbs)
    _write_frequency(out / FREQUENCY, frequency, found.words)
    sizes = {}
    for stale in out.glob(vocabulary_path(out, "*").name):
        stale.unlink()  # of an earlier run with other names
    for name, above in params.vocabularies.items():
        nouns = [noun for noun, count in frequency if count > above]
        sizes[name] = len(nouns)
        write_json(
            vocabulary_path(out, name),
            {"name": name, "above": above, "tagger": tagger_version(weights, params.verbs), "nouns": nouns},
        )
    return NounsReport(
        images=len(corpus.images),
        captions=len(captions),
        distinct_captions=len(set(captions)),
        captions_without_noun=int((np.diff(found.nouns.offsets) == 0).sum()),
        distinct_nouns=len(frequency),
        distinct_phrases=len(found.phrases.counts()),
        distinct_published_phrases=len(found.published_phrases.counts()),
        vocabulary_sizes=sizes,
        seconds=time.perf_counter() - started,
    )


def write_labels(
    path: Path, corpus: CaptionCorpus, found: FoundNouns, weights: TaggerWeights, *, verbs: bool
) -> None:
    """Write `labels.parquet`: a row a caption, by image id and caption id; its distinct nouns and phrases.

    `phrases` are those of the thesis's text, `published_phrases` those of the study's published code.
    """
    captions = [(image.id, caption) for image in corpus.images for caption in image.captions]
    columns = {
        "image_id": pa.array([image for image, _ in captions], pa.int64()),
        "caption_id": pa.array([caption.id for _, caption in captions], pa.int64()),
        "caption": pa.array([caption.text for _, caption in captions], pa.string()),
        "nouns": _arrow(found.nouns),
        "phrases": _arrow(found.phrases),
        "published_phrases": _arrow(found.published_phrases),
    }
    metadata = {"tagger": tagger_version(weights, verbs), "captions": corpus.digest}
    table = pa.table(columns).replace_schema_metadata(metadata)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=_ROW_GROUP)


def tagger_version(weights: TaggerWeights, verbs: bool) -> str:
    """Name, version and option of the tagger, as recorded in every output."""
    return f"{weights.name}@{weights.version}" + ("+verbs" if verbs else "")


def read_frequency(folder: Path) -> list[tuple[str, int]]:
    """(noun, occurrences) as `noun_frequency.parquet` lists them, most frequent first."""
    table = pq.read_table(folder / FREQUENCY)
    return list(zip(table["noun"].to_pylist(), table["count"].to_pylist(), strict=True))


def _write_frequency(path: Path, frequency: Sequence[tuple[str, int]], words: Mapping[str, int]) -> None:
    """Write `noun_frequency.parquet`.

    `count`: occurrences as a noun; `occurrences`: of the word with any tag; `lower_case`: of its lower case.
    """
    columns = {
        "noun": pa.array([noun for noun, _ in frequency], pa.string()),
        "count": pa.array([count for _, count in frequency], pa.int64()),
        "occurrences": pa.array([words[noun] for noun, _ in frequency], pa.int64()),
        "lower_case": pa.array([words[noun.lower()] for noun, _ in frequency], pa.int64()),
    }
    table = pa.table(columns)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _arrow(lists: StringLists) -> pa.ListArray:
    """Distinct strings of each list, in order, as indices into one sorted dictionary."""
    lists = lists.distinct().sorted()
    dictionary = pa.DictionaryArray.from_arrays(lists.ids, pa.array(lists.strings, pa.string()))
    return pa.ListArray.from_arrays(pa.array(lists.offsets.astype(np.int32)), dictionary).cast(_LIST)
