"""Where results live: a Hive-partitioned Parquet data set, and the bitstreams behind it.

::

    results/dataset=kodak/codec=jpeg/<random>.parquet    rows; pandas, DuckDB, Polars and Spark read the folder as it is
    results/_streams/ab/abcd….bin                        bitstreams by their sha256 ("_": readers of Parquet skip it)

A row of status ``ok`` is one image; a row of status ``set`` is all images of a codec at one point, with the metrics of
whole sets (FID).

A row is one file when it is finished, and :meth:`Store.compact` merges the many little files of a sweep. Both are
crash-safe: a file appears whole by a rename, and merged files are removed only after their union is in place. What a
crash in between leaves twice is read once, since rows of one identity are the same row and the newest wins.
"""

from __future__ import annotations

import hashlib
import math
import os
import urllib.parse
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.bench.rows import Row, current, has_point, identity, newest
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1
SCHEMA_KEY = b"hvqbench.schema"
TEXT = (
    *("point_name", "image", "status", "reason", "bitstream_sha256", "reconstruction_sha256", "digest", "key"),
    *("image_sha256", "codec_fingerprint", "metrics", "version", "libraries", "host", "device", "command", "started"),
    "protocol",
)
INTEGER = ("width", "height", "bytes", "images", "patches", "threads", "jobs")
FRONT = (
    *("dataset", "codec", "point", "point_name", "image", "status", "reason", "width", "height"),
    *("bytes", "bpp", "ideal_bytes", "encode_s", "decode_s"),
)
"""Columns that come first in a table; metrics, the ledger (``bytes.<stream>``) and the rest follow."""


class Store:
    """Results in the folder *root*. Reading needs no folder to exist; :meth:`open` makes one that can be written."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def open(self) -> None:
        """Make the folder, and find out now whether it can be written, not after the first hour."""
        probe = self.root / f".probe-{uuid.uuid4().hex[:8]}"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            atomic_write(probe, b"hvqbench")
            probe.unlink()
        except OSError as error:
            remedy = "choose another folder (--results)"
            raise HvqbenchError(f"cannot write to {self.root}: {_reason(error)}; {remedy}") from None

    def append(self, row: Row) -> None:
        """Keep one finished row."""
        self._write(self._partition(row["dataset"], row["codec"]), [row])

    def keep_stream(self, data: bytes) -> None:
        """Keep a bitstream under its sha256."""
        sha256 = hashlib.sha256(data).hexdigest()
        if self.stream(sha256) is None:
            self._write_file(self._stream_path(sha256), data)

    def stream(self, sha256: str) -> bytes | None:
        """The bitstream of that hash, or None if it is not here or was altered."""
        try:
            data = self._stream_path(sha256).read_bytes()
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == sha256 else None

    def rows(self, dataset: str | None = None) -> list[Row]:
        """All rows, one for each identity, oldest first."""
        return newest(row for folder in self._partitions(dataset) for row in self._read_partition(folder))

    def compact(self, dataset: str | None = None) -> None:
        """Merge each partition's files into one."""
        for folder in self._partitions(dataset):
            files = sorted(folder.glob("[!.]*.parquet"))
            if len(files) > 1:
                rows = newest(row for file in files for row in _read_file(file))
                self._write(folder, rows)
                for file in files:
                    file.unlink(missing_ok=True)

    def _read_partition(self, folder: Path) -> list[Row]:
        for _ in range(10):
            try:
                return [row for file in sorted(folder.glob("[!.]*.parquet")) for row in _read_file(file)]
            except FileNotFoundError:
                continue  # another run has just merged these files: list them again
        raise HvqbenchError(f"{folder} changes faster than it can be read; wait for the other run to finish")

    def _partitions(self, dataset: str | None) -> Iterator[Path]:
        pattern = "dataset=*" if dataset is None else self._partition(dataset, "").parent.name
        # No glob for a given data set: its name may hold glob characters.
        parents = self.root.glob(pattern) if dataset is None else [self.root / pattern]
        for parent in sorted(parents):
            yield from sorted(parent.glob("codec=*"))

    def _partition(self, dataset: str, codec: str) -> Path:
        return self.root / f"dataset={_quote(dataset)}" / f"codec={_quote(codec)}"

    def _stream_path(self, sha256: str) -> Path:
        return self.root / "_streams" / sha256[:2] / f"{sha256}.bin"

    def _write(self, folder: Path, rows: list[Row]) -> None:
        self._write_file(folder / f"{uuid.uuid4().hex}.parquet", _to_parquet(rows))

    def _write_file(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data)
        except OSError as error:
            remedy = "make room there and run the same command again: every finished row is kept"
            raise HvqbenchError(f"cannot write to {path.parent}: {_reason(error)}; {remedy}") from None


def read_results(path: str | Path = "results", history: bool = False) -> pd.DataFrame:
    """The results in a folder, as a table.

    Parameters
    ----------
    path
        The folder that ``hvqbench run`` wrote.
    history
        False: what counts now. That is, for each data set and codec, the rows of the codec's newest version only (so
        that no curve mixes two versions of one codec), and of these the newest for each point and image. A row without
        a point (a codec that could not run, an image that could not be read) is left out once a newer row shows that it
        can.
        True: every row, and a column ``current`` that says which of them are in the table above.

    Returns
    -------
    pandas.DataFrame
        One row for each (data set, codec, operating point, image), failures included: keep ``status == "ok"`` before
        averaging. Rows with ``status == "set"`` have no image: they hold the metrics of whole sets. ``bpp`` is
        ``8 * bytes / (width * height)`` with the original's size; ``ideal_bytes`` is the ideal code length of the
        entropy coded streams (NaN where the codec does not know it); ``bytes.<stream>`` is the ledger; times are in
        seconds.

    Raises
    ------
    HvqbenchError
        There are no results in that folder, or a newer hvqbench wrote them.
    """
    rows = Store(path).rows()
    if not rows:
        raise HvqbenchError(f"no results in {str(path)!r}: run `hvqbench run` first, or name its folder (--results)")
    counting = current(rows)
    if not history:
        return to_frame(counting)
    chosen = {identity(row) for row in counting}
    frame = to_frame(rows)
    frame["current"] = [identity(row) in chosen for row in sorted(rows, key=_order)]
    return frame


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a table, sorted by data set, codec, point and image, with its columns in their canonical order."""
    import pandas as pd

    records = sorted(rows, key=_order)
    frame = pd.DataFrame(records)
    text = [name for name in frame.columns if name in TEXT or name in ("dataset", "codec")]
    frame[text] = frame[text].fillna("")
    for name in frame.columns.difference(text):
        frame[name] = pd.to_numeric(frame[name])
    middle = [name for name in frame.columns if name not in FRONT and name not in TEXT and name not in INTEGER]
    order = [*FRONT, *sorted(middle, key=lambda name: (name.startswith("bytes."), name))]
    order += [name for name in (*TEXT, *INTEGER) if name not in order]
    return frame.reindex(columns=order)


def _order(row: Row) -> tuple[str, str, float, str, str]:
    point = row["point"] if has_point(row) else -math.inf
    return row["dataset"], row["codec"], point, row["image"], row["started"]


def _to_parquet(rows: list[Row]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # The partition's folder carries these two; in the file as well they would clash in some readers.
    names = dict.fromkeys(name for row in rows for name in row if name not in ("dataset", "codec"))
    types = {name: pa.string() if name in TEXT else pa.int64() if _is_integer(name) else pa.float64() for name in names}
    table = pa.table({name: pa.array([row.get(name) for row in rows], types[name]) for name in names})
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({SCHEMA_KEY: str(SCHEMA_VERSION).encode()}), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _is_integer(name: str) -> bool:
    return name in INTEGER or name.startswith("bytes.")


def _read_file(path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(path.read_bytes())).read()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise HvqbenchError(f"cannot read {path}: {reason}; remove the file and run again what it held") from None
    version = int((table.schema.metadata or {}).get(SCHEMA_KEY, b"0"))
    if not 0 < version <= SCHEMA_VERSION:
        raise HvqbenchError(f"{path} has schema {version}, and this hvqbench reads {SCHEMA_VERSION}: upgrade hvqbench")
    dataset, codec = (_unquote(folder.name.partition("=")[2]) for folder in (path.parent.parent, path.parent))
    return [{"dataset": dataset, "codec": codec, **row} for row in table.to_pylist()]


def _quote(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _unquote(name: str) -> str:
    return urllib.parse.unquote(name)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
