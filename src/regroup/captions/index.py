"""`index.parquet`: where every sample of the shards lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from regroup.errors import RegroupError

INDEX = "index.parquet"

SCHEMA = pa.schema(
    [
        ("shard", pa.string()),
        ("shard_bytes", pa.int64()),
        ("shard_sha256", pa.string()),
        ("key", pa.string()),
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("captions", pa.int32()),
        ("caption_row", pa.int64()),
    ]
)
"""A row a sample, in the order of image ids: `offset` and `size` are the image's bytes in its shard (a tar),
`width` and `height` its pixels there, `captions` how many it has, `caption_row` the first one's row in
`labels.parquet`."""


CAPTIONS = b"captions"
"""Key of the index's metadata: `CaptionCorpus.digest` of the captions that `caption_row` counts."""


def read_index(path: Path) -> pa.Table:
    """Read an index, with its metadata.

    Raises:
        RegroupError: missing, or not an index.
    """
    if not path.is_file():
        raise RegroupError(f"{path}: no such file; run the stage `shards` first")
    try:
        table = pq.read_table(path, schema=SCHEMA)
        return table.replace_schema_metadata(pq.read_schema(path).metadata)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, KeyError, ValueError) as error:
        raise RegroupError(f"{path}: not a shard index ({error})") from None


@dataclass(frozen=True)
class SampleIndex:
    """An index as arrays over its images (positions), without a Python object an image.

    Attributes:
        shards: names of the shards.
        shard_of: int32 [images], the shard each image is in.
        offsets, sizes: int64 [images], where its bytes lie in the shard.
        image_ids: int64 [images].
        image_of: int32 [captions], the image of each caption row.
    """

    shards: tuple[str, ...]
    shard_of: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    sizes: npt.NDArray[np.int64]
    image_ids: npt.NDArray[np.int64]
    image_of: npt.NDArray[np.int32]

    @classmethod
    def of(cls, table: pa.Table) -> SampleIndex:
        """The arrays of a table that `read_index` read."""
        shards = table["shard"].combine_chunks().dictionary_encode()
        return cls(
            shards=tuple(shards.dictionary.to_pylist()),
            shard_of=shards.indices.to_numpy(),
            offsets=table["offset"].to_numpy(),
            sizes=table["size"].to_numpy(),
            image_ids=table["image_id"].to_numpy(),
            image_of=np.repeat(np.arange(len(table), dtype=np.int32), table["captions"].to_numpy()),
        )
