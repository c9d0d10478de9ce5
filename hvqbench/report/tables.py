"""The tables of a report, each a DataFrame of plain numbers; :func:`to_markdown` is where they are rounded."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hvqbench.analysis.curves import mean_curve
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd

PROVENANCE = ("command", "version", "libraries", "metrics", "host", "device", "threads", "jobs", "codec_fingerprint")
"""Columns of the results that say how a row was made."""


def points_table(results: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Means over the finished rows of each data set, codec and point.

    Columns: ``dataset, codec, point_name, point, images, bpp``, each of *metrics*, ``bytes`` and ``bytes.<stream>`` for
    each stream of the ledger (mean bytes per image).
    """
    ok = results[results["status"] == "ok"]
    streams = [name for name in results.columns if name.startswith("bytes.") and ok[name].notna().any()]
    keys = ["dataset", "codec", *(["point_name"] if "point_name" in results.columns else []), "point"]
    grouped = ok.groupby(keys, sort=True)
    table = grouped[["bpp", *metrics, "bytes", *streams]].mean()
    table.insert(0, "images", grouped["image"].nunique())
    return table.reset_index()


def problems_table(results: pd.DataFrame) -> pd.DataFrame:
    """What did not run, and why: one row per data set, codec, status and reason, with the number of rows."""
    import pandas as pd

    rows = []
    bad = results[results["status"] != "ok"]
    for (dataset, codec, status, reason), group in bad.groupby(["dataset", "codec", "status", "reason"], dropna=False):
        points = ", ".join(f"{p:g}" for p in sorted(group["point"].dropna().unique()))
        images = [str(name) for name in sorted(group["image"].dropna().unique()) if name]
        shown = ", ".join(images[:3]) + (", ..." if len(images) > 3 else "")
        rows.append((dataset, codec, status, len(group), points, shown, reason))
    return pd.DataFrame(rows, columns=["dataset", "codec", "status", "rows", "points", "images", "reason"])


def provenance_table(results: pd.DataFrame) -> pd.DataFrame:
    """How the rows were made: the distinct values of each column of :data:`PROVENANCE`, most frequent first."""
    import pandas as pd

    rows = []
    for dataset, group in results.groupby("dataset", sort=True):
        images = sorted({str(name) for name in group["image"].dropna() if name})
        rows.append((f"images of {dataset}", str(len(images)), len(group)))
    for column in PROVENANCE:
        if column in results.columns:
            counts = results[column].dropna().astype(str).value_counts(sort=False)
            for value, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
                if value:
                    rows.append((column, _flat(str(value)), int(count)))
    return pd.DataFrame(rows, columns=["what", "value", "rows"])


def curve_notes(results: pd.DataFrame, metrics: Sequence[str]) -> list[str]:
    """What the curves leave out, one line per data set, codec and note."""
    notes: dict[str, None] = {}
    for dataset in sorted(results["dataset"].unique()):
        for codec in results.loc[results["dataset"] == dataset, "codec"].unique():
            for metric in metrics:
                try:
                    notes |= dict.fromkeys(
                        f"{codec} on {dataset}: {n}" for n in mean_curve(results, codec, metric, dataset).notes
                    )
                except HvqbenchError as error:
                    notes[f"{codec} on {dataset}: {error}"] = None
    return list(notes)


def to_markdown(table: pd.DataFrame, decimals: Mapping[str, int], titles: Mapping[str, str]) -> str:
    """*table* as Markdown: numbers rounded to *decimals*, a dash where there is none, columns named by *titles*."""
    from tabulate import tabulate

    body = [
        [_cell(value, decimals.get(name)) for name, value in zip(table.columns, values, strict=True)]
        for values in table.itertuples(index=False, name=None)
    ]
    align = ["right" if _is_numeric(table[name]) else "left" for name in table.columns]
    headers = [titles.get(name, name) for name in table.columns]
    return str(
        tabulate(body, headers=headers, tablefmt="pipe", colalign=align if body else None, disable_numparse=True)
    )


def _cell(value: object, decimals: int | None) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.{decimals}f}" if decimals is not None else f"{value:g}"
    return " ".join(str(value).split()).replace("|", "\\|")


def _is_numeric(column: pd.Series) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def _flat(value: str) -> str:
    """A JSON object as ``name value, name value``; anything else as it is."""
    try:
        content = json.loads(value)
    except ValueError:
        return value
    return ", ".join(f"{k} {v}" for k, v in sorted(content.items())) if isinstance(content, dict) else value
