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
import os
import urllib.parse
import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.bench.parquet import read_file, table_to_parquet, to_parquet
from hvqbench.bench.rows import Row, newest
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_write

if TYPE_CHECKING:
    import pyarrow as pa


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
                merged = table.take(newest_of(table))
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


def newest_of(table: pa.Table) -> pa.Array:
    """Where the newest row of each identity is, oldest first."""
    import pyarrow as pa

    frame = table.select(["image", "key", "started"]).to_pandas().sort_values("started", kind="stable")
    return pa.array(frame.index[~frame.duplicated(["image", "key"], keep="last")])


def _quote(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _unquote(name: str) -> str:
    return urllib.parse.unquote(name)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
