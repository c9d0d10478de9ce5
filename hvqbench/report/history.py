"""BD-rate over saved baselines: how the codecs became better or worse, from one release to the next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.analysis.baseline import Baseline, metrics_of
from hvqbench.analysis.bd import bd_rate
from hvqbench.errors import HvqbenchError
from hvqbench.grid import grid

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("dataset", "metric", "codec", "anchor", "baseline", "saved", "bd_rate_percent", "ci_low", "ci_high"),
    *("bytes_percent", "images", "flags"),
)


def history_table(
    baselines: Sequence[Baseline],
    metrics: Sequence[str] = (),
    codecs: Sequence[str] = (),
    anchor: str | None = None,
) -> pd.DataFrame:
    """BD-rate of each codec in each baseline, oldest first.

    Parameters
    ----------
    metrics, codecs
        Only these; by default all that the baselines have.
    anchor
        Compare with this codec of the same baseline; by default each codec with itself in the first baseline that has
        it.

    Returns
    -------
    pandas.DataFrame
        ``dataset, metric, codec, anchor, baseline, saved, bd_rate_percent, ci_low, ci_high, bytes_percent, images,
        flags``. ``bytes_percent`` is the change of bytes at equal operating point, for codecs of one point, too; NaN
        against an *anchor*, whose points are not the codec's.
    """
    import pandas as pd

    if not baselines:
        raise HvqbenchError("there are no baselines: save one with `hvqbench baseline save NAME`")
    rows: list[tuple[object, ...]] = []
    first: dict[tuple[str, str], Baseline] = {}
    for one in sorted(baselines, key=lambda baseline: (baseline.saved, baseline.name)):
        for (dataset, codec), own in one.rows.groupby(["dataset", "codec"], sort=False):
            if codec == anchor or (codecs and codec not in codecs):
                continue
            home = one if anchor else first.setdefault((str(dataset), str(codec)), one)
            other = home.rows[(home.rows["dataset"] == dataset) & (home.rows["codec"] == (anchor or codec))]
            if other.empty:
                continue
            label = anchor or home.name
            if anchor:
                frame, saved_bytes = (
                    pd.concat([other, own.assign(codec="now")]).replace({"codec": {anchor: label}}),
                    math.nan,
                )
            else:
                frame = _side_by_side(other, own, (label, "now"))
                totals = frame.groupby("codec")["bytes"].sum()
                saved_bytes = 100 * (totals.get("now", math.nan) / totals.get(label, math.nan) - 1)
            for metric in metrics_of(own):
                if (metrics and metric not in metrics) or metric not in metrics_of(other) or frame.empty:
                    continue
                bd = bd_rate(frame, "now", label, metric, str(dataset))
                numbers = (bd.percent, bd.ci_low, bd.ci_high, saved_bytes, bd.images, " ".join(bd.flags))
                rows.append((dataset, metric, codec, label, one.name, one.saved, *numbers))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _side_by_side(old: pd.DataFrame, new: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """Rows of one codec from two tables as those of two codecs called *names*, where both finished."""
    import pandas as pd

    place = ["dataset", "point", "image"]
    both = old[place].merge(new.loc[new["status"] == "ok", place], on=place)
    parts = [rows.merge(both, on=place).assign(codec=name) for rows, name in zip((old, new), names, strict=True)]
    return pd.concat(parts, ignore_index=True)


def history_text(table: pd.DataFrame) -> str:
    """The table for a terminal."""

    def percent(value: float) -> str:
        return "-" if math.isnan(value) else f"{value:+.2f} %"

    rows = [
        [
            *(row[name] for name in ("dataset", "metric", "codec", "anchor", "baseline", "saved")),
            percent(row["bd_rate_percent"]),
            "" if math.isnan(row["ci_low"]) else f"{row['ci_low']:+.2f} to {row['ci_high']:+.2f}",
            percent(row["bytes_percent"]),
        ]
        for row in table.to_dict("records")
    ]
    head = ["data set", "metric", "codec", "against", "baseline", "saved", "BD-rate", "95 %", "bytes"]
    return grid(head, rows, left=6)


def save_history_figure(table: pd.DataFrame, path: Path) -> Path:
    """Draw the rows that have a BD-rate into the file *path*."""
    from hvqbench.report.changes import history_figure
    from hvqbench.report.style import save_figure

    drawn = table.dropna(subset="bd_rate_percent")
    if drawn.empty:
        raise HvqbenchError("no baseline has a BD-rate to draw: codecs of one point have none")
    (written,) = save_figure(history_figure(drawn), path.with_suffix(""), [path.suffix.lstrip(".") or "png"])
    return written
