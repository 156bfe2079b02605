"""`index.parquet`: where every sample of the shards lies."""

from __future__ import annotations

from pathlib import Path

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


def read_index(path: Path) -> pa.Table:
    """Read an index.

    Raises:
        RegroupError: missing, or not an index.
    """
    if not path.is_file():
        raise RegroupError(f"{path}: no such file; run the stage `shards` first")
    try:
        return pq.read_table(path, schema=SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError, KeyError, ValueError) as error:
        raise RegroupError(f"{path}: not a shard index ({error})") from None
