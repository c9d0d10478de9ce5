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
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.bench.current import NEEDED, NEEDED_FOR_SETS, counting, one_version
from hvqbench.bench.parquet import INTEGER, REPEATED, TEXT, read_file, table_to_parquet, to_parquet
from hvqbench.bench.rows import Row, has_point, newest
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_write

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FRONT = (
    *("dataset", "codec", "point", "point_name", "image", "status", "reason", "width", "height"),
    *("bytes", "bpp", "ideal_bytes", "encode_s", "decode_s"),
)
"""Columns that come first in a table; metrics, the ledger (``bytes.<stream>``) and the rest follow."""


@dataclass(frozen=True)
class Partition:
    """The folder of one data set and codec."""

    folder: Path

    @property
    def dataset(self) -> str:
        return _unquote(self.folder.parent.name.partition("=")[2])

    @property
    def codec(self) -> str:
        return _unquote(self.folder.name.partition("=")[2])

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("[!.]*.parquet"))


@dataclass(frozen=True)
class Compaction:
    """How many files there were, of how many bytes in all, and how many there are."""

    files_before: int
    bytes_before: int
    files: int
    bytes: int

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Files and bytes, before and now."""
        return (self.files_before, self.bytes_before), (self.files, self.bytes)


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

    def rows(self, dataset: str | None = None, codecs: Collection[str] | None = None) -> list[Row]:
        """All rows, of those *codecs* only if some are named; one for each identity, oldest first."""
        return newest(
            {"dataset": place.dataset, "codec": place.codec, **row}
            for place in self.partitions(dataset, codecs)
            for row in self.table(place).to_pylist()
        )

    def table(
        self, place: Partition, columns: Collection[str] | None = None, repeated: Collection[str] = ()
    ) -> pa.Table:
        """A partition's rows as they lie there, some perhaps twice; with those *columns* only, as far as it has them.

        Columns *repeated* come as dictionaries.
        """
        import pyarrow as pa

        for _ in range(10):
            try:
                tables = [read_file(file, columns, repeated) for file in place.files]
            except FileNotFoundError:
                continue  # another run has just merged these files: list them again
            return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
        raise HvqbenchError(f"{place.folder} changes faster than it can be read; wait for the other run to finish")

    def compact(self, dataset: str | None = None) -> Compaction:
        """Merge each partition's files into one."""
        before = self._size(dataset)
        for place in self.partitions(dataset):
            files = place.files
            if len(files) > 1:
                table = self.table(place)
                merged = table.take(_newest(table))
                self._write_file(place.folder / f"{uuid.uuid4().hex}.parquet", table_to_parquet(merged))
                for file in files:
                    file.unlink(missing_ok=True)
        return Compaction(*before, *self._size(dataset))

    def partitions(self, dataset: str | None = None, codecs: Collection[str] | None = None) -> Iterator[Partition]:
        """The partitions of *dataset* and *codecs*, by default all, in order."""
        # No glob for a given data set: its name may hold glob characters.
        parents = self.root.glob("dataset=*") if dataset is None else [self._partition(dataset, "").parent]
        found = (Partition(folder) for parent in parents for folder in parent.glob("codec=*"))
        chosen = (place for place in found if codecs is None or place.codec in codecs)
        yield from sorted(chosen, key=lambda place: (place.dataset, place.codec))

    def _size(self, dataset: str | None) -> tuple[int, int]:
        """Files and bytes."""
        sizes = [file.stat().st_size for place in self.partitions(dataset) for file in place.files]
        return len(sizes), sum(sizes)

    def _partition(self, dataset: str, codec: str) -> Path:
        return self.root / f"dataset={_quote(dataset)}" / f"codec={_quote(codec)}"

    def _stream_path(self, sha256: str) -> Path:
        return self.root / "_streams" / sha256[:2] / f"{sha256}.bin"

    def _write(self, folder: Path, rows: list[Row]) -> None:
        self._write_file(folder / f"{uuid.uuid4().hex}.parquet", to_parquet(rows))

    def _write_file(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data)
        except OSError as error:
            remedy = "make room there and run the same command again: every finished row is kept"
            raise HvqbenchError(f"cannot write to {path.parent}: {_reason(error)}; {remedy}") from None


def read_results(
    path: str | Path = "results",
    history: bool = False,
    *,
    dataset: str | None = None,
    codecs: Collection[str] | None = None,
    columns: Collection[str] | None = None,
) -> pd.DataFrame:
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
    dataset, codecs, columns
        Only these; no other is read, which is what makes a large store answer soon. Columns that the store does not
        have are left out, and those that decide what counts are there in any case.

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
    import pyarrow as pa

    store = Store(path)
    read = None if columns is None else {*columns, *NEEDED, "status", "metrics", *(NEEDED_FOR_SETS if history else ())}
    tables = []
    for place in store.partitions(dataset, codecs):
        table = store.table(place, read, REPEATED)
        if not len(table):
            continue
        if read is not None and _has_sets(table):
            table = store.table(place, read.union(NEEDED_FOR_SETS), REPEATED)
        if history:
            table = table.take(_newest(table))
        deciding = _deciding(table)
        chosen = counting(deciding)
        if history:
            counts = np.isin(np.arange(len(table)), chosen)
            table, chosen = table.append_column("current", pa.array(counts)), np.arange(len(table))
        order = (
            deciding.iloc[chosen].reset_index(drop=True).sort_values(["point", "image", "started"], na_position="first")
        )
        table = table.take(pa.array(chosen[order.index]))
        for number, name in enumerate((place.dataset, place.codec)):
            table = table.add_column(number, ("dataset", "codec")[number], pa.repeat(pa.scalar(name), len(table)))
        tables.append(table)
    if not tables:
        raise HvqbenchError(f"no results in {str(path)!r}: run `hvqbench run` first, or name its folder (--results)")
    whole = pa.concat_tables([_plain(table) for table in tables], promote_options="default")
    del table, tables
    frame = _arranged(whole.to_pandas(split_blocks=True, self_destruct=True), missing=columns is None)
    return frame if history else one_version(frame)


def _plain(table: pa.Table) -> pa.Table:
    """*table* with texts in place of dictionaries."""
    import pyarrow as pa

    types = [pa.string() if pa.types.is_dictionary(field.type) else field.type for field in table.schema]
    return table.cast(pa.schema(zip(table.column_names, types, strict=True)))


def _has_sets(table: pa.Table) -> bool:
    import pyarrow.compute as pc

    return bool(pc.any(pc.and_(pc.is_valid(table["point"]), pc.equal(table["image"], ""))).as_py())


def _deciding(table: pa.Table) -> pd.DataFrame:
    """What decides on the rows of *table* (:func:`~hvqbench.bench.current.counting`)."""
    if not _has_sets(table):
        return table.select(NEEDED).to_pandas()
    frame = table.select([n for n in (*NEEDED, *NEEDED_FOR_SETS) if n in table.column_names]).to_pandas()
    restored = frame.get("reconstruction_sha256", default=frame["key"].where(frame["key"].isna())).astype(object)
    return frame.assign(reconstruction_sha256=restored.where(restored.notna(), None))


def _newest(table: pa.Table) -> pa.Array:
    """Where the newest row of each identity is, oldest first."""
    import pyarrow as pa

    frame = table.select(["image", "key", "started"]).to_pandas().sort_values("started", kind="stable")
    return pa.array(frame.index[~frame.duplicated(["image", "key"], keep="last")])


def to_frame(rows: Iterable[Row]) -> pd.DataFrame:
    """Rows as a table, sorted by data set, codec, point and image, with its columns in their canonical order."""
    import pandas as pd

    records: list[Row] = sorted(rows, key=_order)
    return _arranged(pd.DataFrame(records))


def _arranged(frame: pd.DataFrame, missing: bool = True) -> pd.DataFrame:
    """*frame* with its columns in their order, texts without gaps and the others as numbers; with those *missing*."""
    import pandas as pd

    for name in frame.columns:
        if name in TEXT or name in ("dataset", "codec"):
            frame[name] = frame[name].fillna("")
        elif name != "current":
            frame[name] = pd.to_numeric(frame[name])
    middle = [n for n in frame.columns if n not in (*FRONT, *TEXT, *INTEGER, "current")]
    order = [*FRONT, *sorted(middle, key=lambda name: (name.startswith("bytes."), name)), *TEXT, *INTEGER, "current"]
    kept = [n for n in dict.fromkeys(order) if n in frame.columns or (missing and n != "current")]
    return frame if kept == list(frame.columns) else frame.reindex(columns=kept)


def _order(row: Row) -> tuple[str, str, float, str, str]:
    point = row["point"] if has_point(row) else -math.inf
    return row["dataset"], row["codec"], point, row["image"], row["started"]


def _quote(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _unquote(name: str) -> str:
    return urllib.parse.unquote(name)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
