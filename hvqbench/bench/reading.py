"""Results as a table: what of a store counts now, or all of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hvqbench.bench.current import NEEDED, NEEDED_FOR_SETS, counting, one_version
from hvqbench.bench.parquet import INTEGER, REPEATED, TEXT
from hvqbench.bench.rows import Row, has_point
from hvqbench.bench.store import Store, newest_of
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FRONT = (
    *("dataset", "codec", "point", "point_name", "image", "status", "reason", "width", "height"),
    *("bytes", "bpp", "ideal_bytes", "encode_s", "decode_s"),
)
"""Columns that come first in a table; metrics, the ledger (``bytes.<stream>``) and the rest follow."""


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
            table = table.take(newest_of(table))
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
