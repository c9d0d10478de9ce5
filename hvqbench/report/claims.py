"""``claims.json``: every number of a report, and the rows of the results that it comes from.

::

    {"groups": {"kodak/hypervq/0.4": ["<key of a row>", ...]},
     "claims": [{"table": "bd-rate", "where": {"dataset": "kodak", "codec": "hypervq", ...},
                 "values": {"bd_rate_percent": -12.3, ...}, "from": ["kodak/hypervq/0", ...]}]}

A key is the sha256 of all that can change a row's numbers (``docs/results.md``), so that a number of a paper leads to
the rows, and these to bitstreams, commands and versions.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from hvqbench.grid import is_numeric
from hvqbench.report.table import Table

if TYPE_CHECKING:
    import pandas as pd

NAMING = ("dataset", "metric", "codec", "anchor", "point_name", "point", "tokenizer", "variant", "flags")
"""Columns that say what a row of a table is about; all other numbers are claims."""


def claims(results: pd.DataFrame, tables: Iterable[Table], rows: Mapping[str, pd.DataFrame] | None = None) -> str:
    """The claims of *tables*, as JSON.

    Parameters
    ----------
    rows
        Of tables that are of some of the *results* only, by name: of which.
    """
    groups = _groups(results)
    found = []
    for table in tables:
        own = (rows or {}).get(table.name)
        of_table = groups if own is None or len(own) == len(results) else _groups(own)
        found += _of_table(table, of_table)
    used = {name for claim in found for name in claim["from"]}
    keys = ",\n".join(f"  {_json(name)}: {_json(own)}" for name, own in groups.items() if name in used)
    lines = ",\n".join(f"  {_json(claim)}" for claim in found)
    return f'{{"groups": {{\n{keys}\n }},\n "claims": [\n{lines}\n ]}}\n'


def _json(value: Any) -> str:
    """In one line: what Python's encoder indents it writes many times slower, and keys may be a million."""
    return json.dumps(value, ensure_ascii=False)


def _groups(results: pd.DataFrame) -> dict[str, list[str]]:
    """The keys of the finished rows of each data set, codec and point; the names of images where rows have no key."""
    done = results[results["status"].isin(["ok", "set"])]
    names = done["key" if "key" in done.columns else "image"].to_numpy(object)
    places: Mapping[Any, Any] = done.groupby(["dataset", "codec", "point"], sort=True).indices
    return {
        f"{dataset}/{codec}/{point:g}": sorted(map(str, names[own])) for (dataset, codec, point), own in places.items()
    }


def _of_table(table: Table, groups: dict[str, list[str]]) -> list[dict[str, Any]]:
    frame = table.frame
    numbers = [name for name in frame.columns if name not in NAMING and is_numeric(frame[name])]
    named = [name for name in NAMING if name in frame.columns]
    claims = []
    for row in frame.to_dict("records"):
        values = {name: _plain(row[name]) for name in numbers if _plain(row[name]) is not None}
        if values:
            where = {name: _plain(row[name]) for name in named}
            claims.append({"table": table.name, "where": where, "values": values, "from": _sources(row, groups)})
    return claims


def _sources(row: dict[Any, Any], groups: dict[str, list[str]]) -> list[str]:
    if "dataset" not in row:
        return []
    places = [f"{row['dataset']}/{row[name]}/" for name in ("codec", "anchor") if name in row]
    point = f"{row['point']:g}" if isinstance(row.get("point"), float | int) else None
    own = [(name, place) for name in groups for place in places if name.startswith(place)]
    return [name for name, place in own if point in (None, name.removeprefix(place))]


def _plain(value: Any) -> Any:
    """A value for JSON, which knows neither numpy's numbers nor NaN."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
