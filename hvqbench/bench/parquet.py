"""Rows as Parquet files: what is text, what is a whole number, the version of the layout, and what is no such file."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from hvqbench.bench.rows import Row
from hvqbench.bench.sealed import DamagedError, is_sealed, open_sealed, seal
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SCHEMA_VERSION = 2
"""1: without checksums. 2: with them."""
SCHEMA_KEY = b"hvqbench.schema"
TEXT = (
    *("point_name", "image", "status", "reason", "bitstream_sha256", "reconstruction_sha256", "digest", "key"),
    *("image_sha256", "codec_fingerprint", "metrics", "version", "libraries", "host", "device", "command", "started"),
    "protocol",
)
INTEGER = ("width", "height", "bytes", "images", "patches", "threads", "jobs")
REPEATED = ("codec_fingerprint", "image_sha256", "metrics", "libraries", "command")
"""Long texts that many rows have in common: in memory each is kept once."""
REQUIRED = ("image", "key", "status", "point", "codec_fingerprint", "started")
"""Columns that every file has."""
FILLED = ("image", "key", "status", "started")
"""Columns in which no row has a gap."""
STATUSES = ("ok", "failed", "unavailable", "set")


def to_parquet(rows: Sequence[Row]) -> bytes:
    """A file of *rows* of one data set and codec."""
    import pyarrow as pa

    # The partition's folder carries these two; in the file as well they would clash in some readers.
    names = dict.fromkeys(name for row in rows for name in row if name not in ("dataset", "codec"))
    types = {name: pa.string() if name in TEXT else pa.int64() if is_integer(name) else pa.float64() for name in names}
    return table_to_parquet(pa.table({name: pa.array([row.get(name) for row in rows], types[name]) for name in names}))


def table_to_parquet(table: pa.Table) -> bytes:
    return seal(table, {SCHEMA_KEY: str(SCHEMA_VERSION).encode()})


def read_file(path: Path, columns: Collection[str] | None = None, repeated: Collection[str] = ()) -> pa.Table:
    """The rows in a file, if it is as hvqbench wrote it.

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
        It is damaged, of a newer hvqbench, or something else. The message names the file and what to run again.
    """
    try:
        return _read(path, columns, repeated)
    except (FileNotFoundError, HvqbenchError):
        raise
    except Exception as error:  # of damaged files, old ones without a checksum, pyarrow's parsers raise almost anything
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise HvqbenchError(f"cannot read {path}: {reason}; {_remedy(path)}") from None


def _read(path: Path, columns: Collection[str] | None, repeated: Collection[str]) -> pa.Table:
    content = path.read_bytes()
    file = open_sealed(content, repeated)
    version = _version(path, (file.metadata.metadata or {}).get(SCHEMA_KEY, b""))
    if version > 1 and not is_sealed(content):
        raise DamagedError("its checksum is missing")
    if problem := next(_strange(file), None):
        raise HvqbenchError(f"{path} was not written by hvqbench, or by something else since ({problem}): restore it")
    table = file.read([name for name in file.schema_arrow.names if columns is None or name in columns])
    table.validate(full=version == 1)  # texts that are none; what is sealed was valid when it was written
    table = _plain_types(table)
    if problem := next(_nonsense(table), None):
        raise HvqbenchError(f"{path} was not written by hvqbench, or by something else since ({problem}): restore it")
    return table


def _version(path: Path, text: bytes) -> int:
    if not re.fullmatch(rb"[1-9][0-9]{0,8}", text):
        raise HvqbenchError(f"{path} was not written by hvqbench, or by something else since: restore it")
    version = int(text)
    if version > SCHEMA_VERSION:
        raise HvqbenchError(f"{path} has schema {version}, and this hvqbench reads {SCHEMA_VERSION}: upgrade hvqbench")
    return version


def _remedy(path: Path) -> str:
    """What to do about a damaged file, by its partition."""
    dataset, codec = (unquote(place.name.partition("=")[2]) for place in (path.parent.parent, path.parent))
    again = f"codec {codec} over data set {dataset}" if dataset and codec else "what it held"
    return f"remove the file and run {again} again"


def _strange(file: pq.ParquetFile) -> Iterator[str]:
    """What in a file's schema hvqbench does not write."""
    import pyarrow as pa

    schema = file.schema_arrow
    for name in REQUIRED:
        if name not in schema.names:
            yield f"it has no column {name}"
    for name in schema.names:
        if schema.names.count(name) > 1:
            yield f"it has the column {name} twice"
        if name in ("dataset", "codec"):
            yield f"it has a column {name}, which is the folder's to say"
    for field in schema:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        fits = _is_text if field.name in TEXT else _is_number
        if not (pa.types.is_null(kind) or fits(kind)):
            yield f"its column {field.name} is of type {kind}"


def _plain_types(table: pa.Table) -> pa.Table:
    """*table* with its numbers as hvqbench writes them: other programs narrow what they merge."""
    import pyarrow as pa

    fields = [
        field
        if field.name in TEXT and not pa.types.is_null(field.type)
        else field.with_type(
            pa.string() if field.name in TEXT else pa.int64() if is_integer(field.name) else pa.float64()
        )
        for field in table.schema
    ]
    wanted = pa.schema(fields)
    return table if wanted.equals(table.schema) else table.cast(wanted)


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _nonsense(table: pa.Table) -> Iterator[str]:
    """What in a file's values hvqbench does not write, as far as it would stop a reader."""
    import pyarrow.compute as pc

    for name in set(FILLED) & set(table.column_names):
        if table[name].null_count:
            yield f"its column {name} has gaps"
    if "status" in table.column_names:
        for status in pc.unique(table["status"]).to_pylist():
            if status not in STATUSES:
                yield f"it has the status {status!r}"
    if "metrics" in table.column_names:
        for text in pc.unique(table["metrics"]).to_pylist():
            if not _is_versions(text):
                yield f"its column metrics has {text[:40]!r}"


def _is_versions(text: str | None) -> bool:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and all(isinstance(value, str) for value in found.values())


def is_integer(name: str) -> bool:
    return name in INTEGER or name.startswith("bytes.")
