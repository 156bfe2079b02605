"""Tables that a task keeps beside its metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def both_forms(name: str, columns: Mapping[str, Any]) -> dict[str, bytes]:
    """A table as `<name>.parquet` and, for people, `<name>.csv`.

    Args:
        name: of the files.
        columns: sequences or arrays of equal length, by name.
    """
    import pyarrow as pa
    import pyarrow.csv as csv
    import pyarrow.parquet as pq

    table = pa.table(dict(columns))
    parquet, text = pa.BufferOutputStream(), pa.BufferOutputStream()
    pq.write_table(table, parquet)
    csv.write_csv(table, text)
    return {
        f"{name}.parquet": parquet.getvalue().to_pybytes(),
        f"{name}.csv": text.getvalue().to_pybytes(),
    }
