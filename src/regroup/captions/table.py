"""`labels.parquet` for training: flat arrays of numbers, strings only on demand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from regroup.errors import RegroupError
from regroup.io import atomic_path, read_json, read_sealed, seal, sha256, source_digest

Int64 = npt.NDArray[np.int64]
Int32 = npt.NDArray[np.int32]

LABELS = "labels.parquet"
"""What the table is called in its folder."""

_LISTS = ("nouns", "phrases", "published_phrases")
_COLUMNS = ("image_id", "caption_id", "caption", *_LISTS)


@dataclass(frozen=True)
class Ragged:
    """One list of label ids a caption: row r holds `values[offsets[r]:offsets[r + 1]]`."""

    offsets: Int64
    values: Int32

    def row(self, row: int) -> Int32:
        """The ids of one caption."""
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def __len__(self) -> int:
        """Number of captions."""
        return len(self.offsets) - 1

    @property
    def rows(self) -> Int64:
        """The row of each value."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def pairs(self) -> Int64:
        """Row and value of each value, as one number: the row times 2^32, and the value."""
        return (self.rows << 32) | self.values


class LabelTable:
    """The labels of every caption as arrays.

    A label id is the place of its string among all nouns and phrases of the table, sorted; so two labels are
    the same string exactly when their ids are equal.

    Attributes:
        path: the file read.
        image_ids, caption_ids: int64 [captions], sorted.
        nouns, phrases, published_phrases: label ids of each caption; `captions.tagging` says what they are.
        tagger: name and version of the tagger.
        captions_digest: `CaptionCorpus.digest` of the captions that the rows stand for.
    """

    def __init__(self, path: Path, table: pa.Table) -> None:
        """Wrap a table read from `path`; use `open`."""
        if missing := [name for name in _COLUMNS if name not in table.column_names]:
            raise RegroupError(
                f"{path}: not a label table: it has no {', '.join(missing)}; run the stage `nouns` again"
            )
        metadata = table.schema.metadata or {}
        self.path = path
        self.tagger = metadata.get(b"tagger", b"").decode()
        self.captions_digest = metadata.get(b"captions", b"").decode()
        self.image_ids: Int64 = table["image_id"].to_numpy()
        self.caption_ids: Int64 = table["caption_id"].to_numpy()
        self._captions = table["caption"]
        columns = [_one_chunk(table[name]) for name in _LISTS]
        distinct = pc.unique(pa.concat_arrays([column.values.dictionary for column in columns]))
        self._labels = distinct.take(pc.sort_indices(distinct))
        self.nouns, self.phrases, self.published_phrases = map(self._ragged, columns)

    @classmethod
    def open(cls, path: Path, *, mapped: Path | None = None) -> LabelTable:
        """Open a label table.

        Args:
            path: `labels.parquet`.
            mapped: an uncompressed copy to map into memory instead, which every process of the machine then
                shares; it is made on first use and when `path` has another content.

        Raises:
            RegroupError: missing, or not a label table.
        """
        if not path.is_file():
            raise RegroupError(f"{path}: no such file; run the stage `nouns` first")
        if mapped is None:
            return cls(path, _read_parquet(path))
        source = f"{sha256(path)} {source_digest('captions/table.py')}".encode()
        if (copy := _map(mapped, source)) is not None:
            return cls(path, copy)
        table = _read_parquet(path).unify_dictionaries().combine_chunks()
        labelled = table.replace_schema_metadata({**(table.schema.metadata or {}), b"source": source})
        with atomic_path(mapped) as temporary:
            with pa.ipc.new_file(str(temporary), labelled.schema) as writer:
                writer.write_table(labelled)
            seal(temporary)
        # None: another process has replaced it, or the disk is failing
        return cls(path, table if (copy := _map(mapped, source)) is None else copy)

    def __len__(self) -> int:
        """Number of captions."""
        return len(self.image_ids)

    @property
    def label_count(self) -> int:
        """Number of distinct labels; ids are 0 .. label_count - 1."""
        return len(self._labels)

    def captions(self, rows: npt.ArrayLike) -> list[str]:
        """Texts of the captions in `rows`."""
        texts: list[str] = self._captions.take(pa.array(np.asarray(rows, dtype=np.int64))).to_pylist()
        return texts

    def label_names(self, ids: npt.ArrayLike) -> list[str]:
        """Strings of label ids."""
        names: list[str] = self._labels.take(pa.array(np.asarray(ids, dtype=np.int64))).to_pylist()
        return names

    def label_ids(self, names: Iterable[str]) -> Int64:
        """Ids of label strings; strings that are no label of this table are left out."""
        found = pc.index_in(pa.array(list(names), pa.string()), value_set=self._labels).drop_null()
        return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)

    def _ragged(self, column: pa.ListArray) -> Ragged:
        encoded = column.values
        number = pc.index_in(encoded.dictionary, value_set=self._labels).to_numpy(zero_copy_only=False)
        values = number.astype(np.int32)[encoded.indices.to_numpy()]
        return Ragged(column.offsets.to_numpy().astype(np.int64), values)


def vocabulary_path(folder: Path, name: str) -> Path:
    """Where the vocabulary called `name` lies."""
    return folder / f"vocabulary-{name}.json"


def read_vocabulary(folder: Path, name: str) -> tuple[str, ...]:
    """The nouns of a curated vocabulary, most frequent first.

    Raises:
        RegroupError: there is none of that name; the message lists the names that exist.
    """
    path = vocabulary_path(folder, name)
    if not path.is_file():
        known = sorted(other.stem.removeprefix("vocabulary-") for other in folder.glob("vocabulary-*.json"))
        raise RegroupError(
            f"{path}: no such vocabulary; nouns.vocabularies made: {', '.join(known) or 'none'}"
        )
    document = read_json(path)
    nouns = document.get("nouns") if isinstance(document, dict) else None
    if not isinstance(nouns, list) or not all(isinstance(noun, str) for noun in nouns):
        raise RegroupError(f"{path}: nouns: expected a list of strings; run the stage `nouns` again")
    return tuple(nouns)


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise RegroupError(f"{path}: not a Parquet file ({error})") from None


def _map(path: Path, source: bytes) -> pa.Table | None:
    """The copy at `path` if it is whole and was made of `source`; its memory is the file's."""
    if (content := read_sealed(path)) is None:
        return None
    table = pa.ipc.open_file(pa.py_buffer(content)).read_all()
    return table if table.schema.metadata.get(b"source") == source else None


def _one_chunk(column: pa.ChunkedArray) -> pa.ListArray:
    chunk = column.unify_dictionaries().combine_chunks()
    return chunk if isinstance(chunk, pa.ListArray) else chunk.chunk(0)
