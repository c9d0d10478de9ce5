"""Rows as Parquet files: what is text, what is a whole number, and the version of the layout."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.bench.rows import Row
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
SCHEMA_KEY = b"hvqbench.schema"
TEXT = (
    *("point_name", "image", "status", "reason", "bitstream_sha256", "reconstruction_sha256", "digest", "key"),
    *("image_sha256", "codec_fingerprint", "metrics", "version", "libraries", "host", "device", "command", "started"),
    "protocol",
)
INTEGER = ("width", "height", "bytes", "images", "patches", "threads", "jobs")
REPEATED = ("codec_fingerprint", "metrics", "libraries", "command")
"""Long texts of which a million rows have a few: in memory each is kept once."""


def to_parquet(rows: Sequence[Row]) -> bytes:
    """A file of *rows* of one data set and codec."""
    import pyarrow as pa

    # The partition's folder carries these two; in the file as well they would clash in some readers.
    names = dict.fromkeys(name for row in rows for name in row if name not in ("dataset", "codec"))
    types = {name: pa.string() if name in TEXT else pa.int64() if is_integer(name) else pa.float64() for name in names}
    return table_to_parquet(pa.table({name: pa.array([row.get(name) for row in rows], types[name]) for name in names}))


def table_to_parquet(table: pa.Table) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({SCHEMA_KEY: str(SCHEMA_VERSION).encode()}), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def read_file(path: Path, columns: Collection[str] | None = None, repeated: Collection[str] = ()) -> pa.Table:
    """The rows in a file.

    Parameters
    ----------
    columns
        Only these, as far as the file has them.
    repeated
        Columns to be read as dictionaries.

    Raises
    ------
    FileNotFoundError
        Another run has just merged the file with others.
    HvqbenchError
        It is damaged, or of a newer hvqbench.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = path.read_bytes()
        own = pq.read_schema(pa.BufferReader(content)).names if repeated else ()
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=[name for name in repeated if name in own])
        version = int((file.schema_arrow.metadata or {}).get(SCHEMA_KEY, b"0"))
        if not 0 < version <= SCHEMA_VERSION:
            if not version:
                raise HvqbenchError(f"{path} was not written by hvqbench, or by something else since: restore it")
            reads = f"this hvqbench reads {SCHEMA_VERSION}"
            raise HvqbenchError(f"{path} has schema {version}, and {reads}: upgrade hvqbench")
        return file.read([name for name in file.schema_arrow.names if columns is None or name in columns])
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise HvqbenchError(f"cannot read {path}: {reason}; remove the file and run again what it held") from None


def is_integer(name: str) -> bool:
    return name in INTEGER or name.startswith("bytes.")
