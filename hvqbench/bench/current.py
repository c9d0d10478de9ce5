"""Which rows count now: of each codec its newest version, of each point and image the newest row, one version a metric.

So no mean and no curve joins two codes, two weights or two versions of a metric. What does not count stays stored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hvqbench.bench.rows import Row, set_key

if TYPE_CHECKING:
    import pandas as pd

NEEDED = ("point", "image", "codec_fingerprint", "started")
"""The columns that decide."""
NEEDED_FOR_SETS = ("status", "key", "reconstruction_sha256")
"""Those that decide on rows about whole sets as well."""

Positions = NDArray[np.intp]


def current(rows: Sequence[Row]) -> list[Row]:
    """Those of *rows* that count now; see :func:`~hvqbench.bench.reading.read_results`."""
    import pandas as pd

    names = ("dataset", "codec", *NEEDED, *NEEDED_FOR_SETS)
    frame = pd.DataFrame({name: [row.get(name) for row in rows] for name in names})
    groups = map(np.asarray, frame.groupby(["dataset", "codec"], sort=False).indices.values())
    return [rows[place] for group in groups for place in group[counting(frame.iloc[group])]]


def counting(rows: pd.DataFrame) -> Positions:
    """The positions of those of *rows*, all of one data set and codec, that count now; the oldest first."""
    order = rows["started"].argsort(kind="stable").to_numpy()
    rows = rows.iloc[order]
    has_point = rows["point"].notna().to_numpy()
    counts = np.zeros(len(rows), bool)
    if has_point.any():
        fingerprint = rows["codec_fingerprint"]
        counts = has_point & (fingerprint == fingerprint[has_point].iloc[-1]).to_numpy()
    for place in np.flatnonzero(~has_point):
        # A codec or an image that could not be used: news until there is a newer row that shows that it can be.
        row = rows.iloc[place]
        measured = has_point & (rows["image"] == row["image"]).to_numpy() if row["image"] else has_point
        counts[place] = not measured.any() or row["started"] > rows["started"][measured].iloc[-1]
    of_set = has_point & (rows["image"] == "").to_numpy()
    last = ~rows[counts & ~of_set].duplicated(["point", "image"], keep="last").to_numpy()
    chosen = np.flatnonzero(counts & ~of_set)[last]
    if of_set.any():
        chosen = np.sort(np.concatenate([chosen, _counting_sets(rows, chosen, np.flatnonzero(of_set))]))
    return np.asarray(order[chosen])


def _counting_sets(rows: pd.DataFrame, images: Positions, sets: Positions) -> Positions:
    """Those of the *sets* that are about exactly these *images*: neither more, nor fewer, nor older reconstructions."""
    groups: dict[float, list[Row]] = {}
    records: list[Any] = rows.iloc[images].to_dict("records")
    for row in records:
        if row["status"] == "ok":
            groups.setdefault(row["point"], []).append(row)
    keys = {point: set_key(group) for point, group in groups.items()}
    points, own = rows["point"].to_numpy(), rows["key"].to_numpy(object)
    found = {points[place]: place for place in sets if own[place] == keys.get(points[place])}
    return np.array(list(found.values()), np.intp)


def one_version(frame: pd.DataFrame) -> pd.DataFrame:
    """*frame* without the values of a metric in any but its newest version, for each data set and codec."""
    if "metrics" not in frame.columns or frame.empty:
        return frame
    codes, texts = frame["metrics"].factorize()
    versions: list[dict[str, str]] = [json.loads(text or "{}") for text in texts]
    names = dict.fromkeys(name for own in versions for name in own)
    if all(len({own[name] for own in versions if name in own}) < 2 for name in names):
        return frame
    frame = frame.assign(metrics=frame["metrics"].astype(object))
    started, metrics = frame["started"].to_numpy(object), frame["metrics"].to_numpy(object, copy=True)
    values: dict[str, NDArray[Any]] = {}
    for group in frame.groupby(["dataset", "codec"], sort=False).indices.values():
        latest = {code: max(started[group[codes[group] == code]]) for code in np.unique(codes[group])}
        newest: dict[str, str] = {}
        for code in sorted(latest, key=latest.__getitem__):
            newest |= versions[code]
        for code in latest:
            kept = {name: version for name, version in versions[code].items() if version == newest[name]}
            rows = group[codes[group] == code]
            for name in (versions[code].keys() - kept.keys()) & set(frame.columns):
                values.setdefault(name, frame[name].to_numpy(float, copy=True))[rows] = np.nan
            if kept != versions[code]:
                metrics[rows] = json.dumps(kept)
    return frame.assign(metrics=metrics, **values)
