"""Parquet files that say when they are damaged.

Parquet's own checksums are of pages; a flipped bit in the footer (a column's name, an offset, a statistic) passes them.
So the file's metadata also carries the sha256 of the whole file, taken with zeros in its own place. It is inside the
file, so that a copy under another name is checked too, and other readers of Parquet need not know of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SEAL_KEY = b"hvqbench.seal"
MARK = b"sha256:"
DIGITS = 64
ZEROS = b"0" * DIGITS


class DamagedError(Exception):
    """The file is not as it was written."""


def seal(table: pa.Table, metadata: Mapping[bytes, bytes]) -> bytes:
    """*table* as a Parquet file, with *metadata* and a seal."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = table.replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    options = {"compression": "zstd", "write_page_checksum": True, "store_schema": False}
    with pq.ParquetWriter(sink, table.schema, **options) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({**metadata, SEAL_KEY: MARK + ZEROS})
    content = bytearray(sink.getvalue().to_pybytes())
    place = _place(content)
    content[place : place + DIGITS] = _digest(content, place)
    return bytes(content)


def open_sealed(content: bytes, repeated: Collection[str] = ()) -> pq.ParquetFile:
    """The Parquet file *content*, if every byte of it is as it was written.

    So its pages' own checksums, which are for other readers, need no second look. A file without a seal
    (:func:`is_sealed`) is an old one, and is believed.

    Parameters
    ----------
    repeated
        Columns to be read as dictionaries, as far as there are such.

    Raises
    ------
    DamagedError
        The seal is broken.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = _place(content)
    if place >= 0 and content[place : place + DIGITS] != _digest(content, place):
        raise DamagedError("its checksum is wrong")
    own = pq.read_schema(pa.BufferReader(content)).names if repeated else []
    chosen = [name for name in repeated if name in own]
    return pq.ParquetFile(pa.BufferReader(content), read_dictionary=chosen, page_checksum_verification=place < 0)


def is_sealed(content: bytes) -> bool:
    return _place(content) >= 0


def _place(content: bytes | bytearray) -> int:
    """Where the seal's digits are; negative if there are none. The footer is at the end, so the last mark is it."""
    found = content.rfind(MARK)
    return found + len(MARK) if found >= 0 and content.rfind(SEAL_KEY, 0, found) >= found - 32 else -1


def _digest(content: bytes | bytearray, place: int) -> bytes:
    digest = hashlib.sha256()
    whole = memoryview(content)
    for part in (whole[:place], ZEROS, whole[place + DIGITS :]):
        digest.update(part)
    return digest.hexdigest().encode()
