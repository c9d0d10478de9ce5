"""Where results live: a Hive-partitioned Parquet data set, and the bitstreams behind it.

::

    results/dataset=kodak/codec=jpeg/<random>.parquet    rows; pandas, DuckDB, Polars and Spark read the folder as it is
    results/_streams/ab/abcd….bin                        bitstreams by their sha256 ("_": readers of Parquet skip it)

A row of status ``ok`` is one image; a row of status ``set`` is all images of a codec at one point, with the metrics of
whole sets (FID).

A row is one file when it is finished, and :meth:`Store.compact` merges the many little files of a sweep. Both are
crash-safe: a file appears whole by a rename, and merged files are removed only after their union is in place. What a
crash in between leaves twice is read once, since rows of one identity are the same row and the newest wins.

What is newest does not hang on the clock: a row's ``started`` is later than that of every row that was there before it
(:func:`~hvqbench.bench.rows.after`).
"""

from __future__ import annotations

import errno
import hashlib
import os
import urllib.parse
import uuid
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.bench.parquet import read_file, table_to_parquet, to_parquet
from hvqbench.bench.rows import Row, after, newest
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_write, sweep

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
        return sorted(self.folder.glob("[!.]*.parquet")) if _is_folder(self.folder) else []


@dataclass(frozen=True)
class Compaction:
    """How many files there were, of how many bytes in all, and how many there are."""

    files_before: int
    bytes_before: int
    files: int
    bytes: int
    problem: str = ""
    """Why some files could not be merged, if so; nothing is lost by it."""

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Files and bytes, before and now."""
        return (self.files_before, self.bytes_before), (self.files, self.bytes)


class FullError(HvqbenchError):
    """There is no room left."""


class Store:
    """Results in the folder *root*. Reading needs no folder to exist; :meth:`open` makes one that can be written."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._last: dict[Path, str] = {}
        """When the newest row of a partition started, of those that were read or written."""

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
        self._sweep()

    def append(self, row: Row) -> Row:
        """Keep one finished row; as it is kept, newer than all that were there."""
        folder = self._partition(row["dataset"], row["codec"])
        if folder not in self._last:
            self.table(Partition(folder), ["started"])
        row = row | {"started": after(row["started"], self._last[folder])}
        self._write_file(folder / f"{uuid.uuid4().hex}.parquet", to_parquet([row]))
        self._last[folder] = row["started"]
        return row

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
        return self._joined(place, self._read(place, columns, repeated))

    def compact(self, dataset: str | None = None) -> Compaction:
        """Merge each partition's files into one, or on a full disk into as few as fit."""
        before = self._size(dataset)
        self._sweep()
        problem = ""
        for place in self.partitions(dataset):
            tables = self._read(place)
            if len(tables) > 1:
                problem = self._merge(place, tables) or problem
        return Compaction(*before, *self._size(dataset), problem)

    def partitions(self, dataset: str | None = None, codecs: Collection[str] | None = None) -> Iterator[Partition]:
        """The partitions of *dataset* and *codecs*, by default all, in order."""
        # No glob for a given data set: its name may hold glob characters.
        parents = self.root.glob("dataset=*") if dataset is None else [self._partition(dataset, "").parent]
        found = (Partition(folder) for parent in parents if _is_folder(parent) for folder in parent.glob("codec=*"))
        chosen = (place for place in found if codecs is None or place.codec in codecs)
        yield from sorted(chosen, key=lambda place: (place.dataset, place.codec))

    def _read(
        self, place: Partition, columns: Collection[str] | None = None, repeated: Collection[str] = ()
    ) -> dict[Path, pa.Table]:
        """The files of a partition, until a listing has none that was not read.

        Another run may be merging them: its union is there before the first of the merged ones is gone, but a listing
        in the midst of that may have missed both.
        """
        tables: dict[Path, pa.Table] = {}
        for _ in range(100):
            unread = [file for file in place.files if file not in tables]
            for file in unread:
                try:
                    tables[file] = read_file(file, columns, repeated)
                except FileNotFoundError:
                    if file.is_symlink():
                        raise HvqbenchError(f"{file} is a link to nothing: remove it, or restore its target") from None
            if not unread:
                return tables
        raise HvqbenchError(f"{place.folder} changes faster than it can be read; wait for the other run to finish")

    def _joined(self, place: Partition, tables: dict[Path, pa.Table]) -> pa.Table:
        import pyarrow as pa
        import pyarrow.compute as pc

        table = pa.concat_tables(tables.values(), promote_options="default") if tables else pa.table({})
        if "started" in table.column_names:
            self._last[place.folder] = max(pc.max(table["started"]).as_py() or "", self._last.get(place.folder, ""))
        else:
            self._last.setdefault(place.folder, "")
        return table

    def _merge(self, place: Partition, tables: dict[Path, pa.Table]) -> str:
        """Put the union of *tables* in their files' place, or where there is no room for it unions of parts of them.

        Returns why not all could be merged.
        """
        union = place.folder / f"{uuid.uuid4().hex}.parquet"
        table = self._joined(place, tables)
        try:
            self._write_file(union, table_to_parquet(table.take(newest_of(table))))
        except FullError as error:
            names = list(tables)
            halves = names[: len(names) // 2], names[len(names) // 2 :]
            done = [self._merge(place, {name: tables[name] for name in half}) for half in halves if len(half) > 1]
            return next(filter(None, done), str(error))
        for file in tables:
            file.unlink(missing_ok=True)
        return ""

    def _sweep(self) -> None:
        """Remove what killed runs left half written."""
        streams = self.root / "_streams"
        sweep([self.root, *(place.folder for place in self.partitions()), *streams.glob("*")])

    def _size(self, dataset: str | None) -> tuple[int, int]:
        """Files and bytes."""
        sizes = []
        for place in self.partitions(dataset):
            for file in place.files:
                with suppress(FileNotFoundError):  # merged in the meantime
                    sizes.append(file.stat().st_size)
        return len(sizes), sum(sizes)

    def _partition(self, dataset: str, codec: str) -> Path:
        return _named(_named(self.root, "dataset", dataset), "codec", codec)

    def _stream_path(self, sha256: str) -> Path:
        return self.root / "_streams" / sha256[:2] / f"{sha256}.bin"

    def _write_file(self, path: Path, data: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(path, data)
        except OSError as error:
            kept = "and run the same command again: every finished row is kept"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FullError(f"cannot write to {path.parent}: {_reason(error)}; make room there {kept}") from None
            too_long = error.errno == errno.ENAMETOOLONG
            remedy = "give the data set or the codec a shorter name" if too_long else f"make it writable {kept}"
            raise HvqbenchError(f"cannot write to {path.parent}: {_reason(error)}; {remedy}") from None


def newest_of(table: pa.Table) -> pa.Array:
    """Where the newest row of each identity is, oldest first."""
    import pyarrow as pa

    frame = table.select(["image", "key", "started"]).to_pandas().sort_values("started", kind="stable")
    return pa.array(frame.index[~frame.duplicated(["image", "key"], keep="last")])


def _named(parent: Path, key: str, name: str) -> Path:
    """The folder of a partition. Quoted is what must be: %-encoded, a name in most scripts is nine times as long."""
    folder = parent / f"{key}={_quote(name)}"
    earlier = parent / f"{key}={urllib.parse.quote(name, safe='')}"  # as stores of before 0.1 have it
    return earlier if earlier != folder and _is_folder(earlier) else folder


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name that is too long is no folder's
        return False


def _quote(name: str) -> str:
    return "".join(sign if sign.isalnum() else urllib.parse.quote(sign, safe="") for sign in name)


def _unquote(name: str) -> str:
    return urllib.parse.unquote(name)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
