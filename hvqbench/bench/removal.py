"""Rows that are to go: those of a codec, of a data set or of a point, and the bitstreams that nothing else refers to.

Crash-safe as the store is: what stays is written before the files that held it with the rest are removed. A crash in
between leaves every row, some twice, and to give the command again finishes it.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.bench.parquet import table_to_parquet
from hvqbench.bench.store import Partition, Store
from hvqbench.errors import HvqbenchError, closest
from hvqbench.files import atomic_write
from hvqbench.selection import Points, choose_among

if TYPE_CHECKING:
    import pyarrow as pa

STREAM = "bitstream_sha256"


@dataclass(frozen=True)
class Part:
    """The rows of one data set and codec that are to go: how many, at which points, of how many."""

    dataset: str
    codec: str
    rows: int
    points: tuple[float, ...]
    of: int

    @property
    def text(self) -> str:
        where = f" at {', '.join(f'{point:g}' for point in self.points)}" if self.points else ""
        return f"{self.dataset} {self.codec}{where}: {self.rows} of {self.of} rows"


@dataclass(frozen=True)
class Removal:
    """What :func:`remove` found, and has removed if it was to: *streams* are as many files of *bytes* in all."""

    parts: tuple[Part, ...]
    streams: int
    bytes: int

    @property
    def text(self) -> str:
        lines = [part.text for part in self.parts]
        if self.streams:
            lines.append(f"{self.streams} bitstreams, {self.bytes / 1e6:.1f} MB")
        return "\n".join(lines)


def remove(
    results: str | Path,
    codecs: Collection[str] = (),
    datasets: Collection[str] = (),
    points: Collection[float] = (),
    *,
    only_look: bool = False,
) -> Removal:
    """Remove rows from the store in *results*, with all their history. Not for beside a run: it would lose its streams.

    Parameters
    ----------
    codecs
        Ids, tags or paths, each with ``@POINTS`` for some of its points; all if none is named.
    datasets
        Ids, or the folders they were; all if none is named.
    points
        Only rows at these points, of codecs without points of their own. A row without a point (a codec that could not
        run) goes only where no point is named.
    only_look
        Say what would go, and remove nothing.

    Raises
    ------
    HvqbenchError
        Nothing is named, a name or points that the store does not have, a file that cannot be removed.
    """
    store = Store(results)
    places = list(store.partitions())
    if not places:
        raise HvqbenchError(f"no results in {str(results)!r}: name their folder (--results)")
    if not (codecs or datasets):
        raise HvqbenchError("name what is to go: --codec, --dataset, or both")
    wanted = _datasets(datasets, {place.dataset for place in places})
    known = {place.codec for place in places if place.dataset in wanted}
    chosen: Mapping[str, Points] = choose_among(codecs, known) if codecs else dict.fromkeys(sorted(known), ())
    parts, doomed = [], []
    gone: set[str] = set()
    there: set[float] = set()
    for place in places:
        if place.dataset not in wanted or place.codec not in chosen:
            continue
        files = place.files  # before they are read: a row that another process adds now stays in its own file
        table = store.table(place)
        there.update(point for point in table["point"].to_pylist() if point is not None)
        goes = _goes(table, chosen[place.codec] or tuple(points))
        if number := sum(goes):
            at = sorted(
                {
                    point
                    for point, out in zip(table["point"].to_pylist(), goes, strict=True)
                    if out and point is not None
                }
            )
            parts.append(Part(place.dataset, place.codec, number, tuple(at), len(table)))
            gone |= _streams(table, goes)
            doomed.append((place, files, table, goes))
    if not parts:
        have = f"the points are {', '.join(f'{point:g}' for point in sorted(there)) or 'none'}"
        raise HvqbenchError(f"there is no such row: {have}; name some of these, or leave points out")
    kept = {sha for place in places for sha in _kept(store, place, doomed)}
    streams = [
        path for sha in sorted(gone - kept) if (path := store.root / "_streams" / sha[:2] / f"{sha}.bin").is_file()
    ]
    removal = Removal(tuple(parts), len(streams), sum(path.stat().st_size for path in streams))
    if not only_look:
        for place, files, table, goes in doomed:
            _rewrite(place, files, table, goes)
        for path in streams:
            path.unlink(missing_ok=True)
    return removal


def _datasets(named: Collection[str], known: Collection[str]) -> set[str]:
    from hvqbench.data import path_id

    ids = {name if name in known else path_id(Path(name)): name for name in named}
    for dataset, name in ids.items():
        if dataset not in known:
            have = f"{closest(dataset, known)}they have {', '.join(sorted(known))}"
            raise HvqbenchError(f"the results have no data set {name!r}: {have}")
    return set(ids) or set(known)


def _goes(table: pa.Table, points: Points) -> list[bool]:
    """Which rows go: all, or those at *points*; those of whole sets as well."""
    if not points:
        return [True] * len(table)
    return [point in points for point in table["point"].to_pylist()]


def _streams(table: pa.Table, which: Collection[bool]) -> set[str]:
    """The bitstreams that these rows refer to."""
    if STREAM not in table.column_names:
        return set()
    return {sha for sha, chosen in zip(table[STREAM].to_pylist(), which, strict=True) if sha and chosen}


def _kept(
    store: Store, place: Partition, doomed: Collection[tuple[Partition, list[Path], pa.Table, list[bool]]]
) -> set[str]:
    """The bitstreams that *place* will still refer to."""
    for other, _, table, goes in doomed:
        if other == place:
            return _streams(table, [not out for out in goes])
    table = store.table(place, [STREAM])
    return _streams(table, [True] * len(table))


def _rewrite(place: Partition, files: Collection[Path], table: pa.Table, goes: Collection[bool]) -> None:
    """Leave in *place* only the rows that do not go; a folder that has none left goes too."""
    stays = table.filter([not out for out in goes])
    try:
        if len(stays):
            atomic_write(place.folder / f"{uuid.uuid4().hex}.parquet", table_to_parquet(stays))
        for file in files:
            file.unlink(missing_ok=True)
    except OSError as error:
        raise HvqbenchError(
            f"cannot remove rows from {place.folder}: {error.strerror}; check its permissions"
        ) from None
    for folder in (place.folder, place.folder.parent):
        with suppress(OSError):  # not empty
            folder.rmdir()
