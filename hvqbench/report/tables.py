"""The tables of a report, each a DataFrame of plain numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hvqbench.errors import HvqbenchError
from hvqbench.protocol import codec_flags, explain, published_flags

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.analysis.pairs import Curves
    from hvqbench.metrics import MetricInfo

PROVENANCE = ("command", "version", "libraries", "metrics", "host", "device", "threads", "jobs", "codec_fingerprint")
"""Columns of the results that say how a row was made."""


def points_table(results: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Means over the finished rows of each data set, codec and point.

    Columns: ``dataset, codec, point_name, point, images, bpp``, each of *metrics*, then for each stream of the ledger
    ``bpp.<stream>``, which add up to ``bpp``, ``bytes`` and ``bytes.<stream>`` (mean bytes per image); before ``bpp``,
    ``protocol`` with flags (:data:`hvqbench.protocol.FLAGS`) if any codec has some. Metrics of whole sets are in
    :func:`sets_table`.
    """
    ok = results[results["status"] == "ok"].copy()
    streams = [name for name in results.columns if name.startswith("bytes.") and ok[name].notna().any()]
    keys = ["dataset", "codec", *(["point_name"] if "point_name" in results.columns else []), "point"]
    rates = [name.replace("bytes.", "bpp.", 1) for name in streams]
    for stream, rate in zip(streams, rates, strict=True):
        # An image that does without a stream which the codec has elsewhere at this point spends nothing on it.
        ok[stream] = ok[stream].fillna(0).where(ok.groupby(keys)[stream].transform("count") > 0)
        ok[rate] = ok["bpp"] * ok[stream] / ok["bytes"]
    grouped = ok.groupby(keys, sort=True)
    table = grouped[["bpp", *metrics, *rates, "bytes", *streams]].mean()
    table.insert(0, "images", grouped["image"].nunique())
    table = table.reset_index()
    if flags := codec_flags(ok):
        table.insert(list(table.columns).index("bpp"), "protocol", [flags.get(codec, "") for codec in table["codec"]])
    return table


def sets_table(results: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """The *metrics* of whole sets: ``dataset, codec, point_name, point, images, patches, bpp``, and each of them."""
    of_set = results[results["status"] == "set"]
    columns = ["dataset", "codec", "point_name", "point", "images", "patches", "bpp", *metrics]
    return of_set.reindex(columns=columns).sort_values(["dataset", "codec", "point"], ignore_index=True)


def metrics_table(results: pd.DataFrame, infos: Mapping[str, MetricInfo]) -> pd.DataFrame:
    """What each metric's id stands for: ``metric, version`` (of the results), ``network, input, range, better``."""
    import pandas as pd

    versions: dict[str, dict[str, None]] = {}
    for text in results["metrics"].dropna().unique() if "metrics" in results.columns else ():
        for name, version in json.loads(text or "{}").items():
            versions.setdefault(name, {})[version] = None
    rows = []
    for name, info in infos.items():
        version = ", ".join(sorted(versions.get(name, ()))) or f"{name}/{info.version}"
        better = "higher" if info.higher_is_better else "lower"
        bounds = f"{info.range[0]:g} to {info.range[1]:g}"
        rows.append((name, version, info.net, f"8-bit RGB as {info.input}", bounds, better))
    return pd.DataFrame(rows, columns=["metric", "version", "network", "input", "range", "better"])


def problems_table(results: pd.DataFrame) -> pd.DataFrame:
    """What did not run, and why: one row per data set, codec, status and reason, with the number of rows."""
    import pandas as pd

    rows = []
    bad = results[~results["status"].isin(["ok", "set"])]
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
        images = sorted({str(name) for name in group["image"].dropna().unique() if name})
        rows.append((f"images of {dataset}", str(len(images)), len(group)))
    for column in PROVENANCE:
        if column in results.columns:
            counts = results[column].dropna().astype(str).value_counts(sort=False)
            for value, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
                if value:
                    rows.append((column, _flat(str(value)), int(count)))
    return pd.DataFrame(rows, columns=["what", "value", "rows"])


def label(name: str) -> str:
    """A codec's name for a reader: ``vtm (published)`` for ``published:vtm``, else as it is."""
    from hvqbench.curves import is_published

    return f"{bare(name)} (published)" if is_published(name) else name


def bare(name: str) -> str:
    """The name of a codec without the prefix of a published one."""
    from hvqbench.curves import PREFIX

    return name.removeprefix(PREFIX)


def published_table(results: pd.DataFrame, codecs: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """The published curves of *codecs* that share a data set and a metric with the results: one row for each source.

    Columns: ``dataset, codec, metrics, points`` (of the longest curve), ``bpp_range, source, commit, protocol``.

    Raises
    ------
    HvqbenchError
        If a codec has no such curve: with what it has.
    """
    import pandas as pd

    from hvqbench.curves import published_points
    from hvqbench.curves.library import extent

    datasets = set(results["dataset"].unique())
    rows = []
    for codec in codecs:
        own = [point for point in published_points() if point.codec == codec]
        shared = [point for point in own if point.dataset in datasets and point.metric in metrics]
        if not shared:
            asked = f"{', '.join(metrics)} on {', '.join(sorted(datasets))}"
            raise HvqbenchError(
                f"the published curve of {codec} is of {extent(own)}; the results are of {asked}: leave it out"
            )
        places = dict.fromkeys((p.dataset, p.source, p.commit, p.protocol) for p in shared)
        for dataset, source, commit, protocol in places:
            of_place = [
                p for p in shared if (p.dataset, p.source, p.commit, p.protocol) == (dataset, source, commit, protocol)
            ]
            names = dict.fromkeys(p.metric for p in of_place)
            rates = sorted({p.bpp for p in of_place})
            span = f"{rates[0]:.4f} to {rates[-1]:.4f}"
            rows.append((dataset, f"{codec} (published)", ", ".join(names), len(rates), span, source, commit, protocol))
    columns = ["dataset", "codec", "metrics", "points", "bpp_range", "source", "commit", "protocol"]
    return pd.DataFrame(rows, columns=columns)


def protocol_notes(points: pd.DataFrame, published: pd.DataFrame | None = None) -> list[str]:
    """Whose rows are not like for like with the others, one line for each flag, measured and published alike."""
    marked = dict(zip(points["codec"], points["protocol"], strict=True)) if "protocol" in points else {}
    if published is not None:
        marked |= {row["codec"]: published_flags(row["protocol"]) for row in published.to_dict("records")}
    return explain(marked)


def curve_notes(curves: Curves, codecs: Sequence[str], metrics: Sequence[str], datasets: Sequence[str]) -> list[str]:
    """What the curves of *codecs* leave out, one line per data set, codec and note; nothing of one without any."""
    notes: dict[str, None] = {}
    done = curves.results[curves.results["status"].isin(["ok", "set"])]
    for dataset in datasets:
        there = set(done.loc[done["dataset"] == dataset, "codec"].unique())
        for codec in (codec for codec in codecs if codec in there):
            own = done.loc[(done["codec"] == codec) & (done["dataset"] == dataset), list(metrics)]
            for metric in metrics:
                if own[metric].isna().all():
                    notes[f"{codec} on {dataset}: no {metric}"] = None
                    continue
                curve = curves.get(codec, metric, dataset)
                notes |= dict.fromkeys(f"{codec} on {dataset}: {note}" for note in curve.notes)
    return list(notes)


def _flat(value: str) -> str:
    """A JSON object as ``name value, name value``; anything else as it is."""
    try:
        content = json.loads(value)
    except ValueError:
        return value
    return ", ".join(f"{k} {v}" for k, v in sorted(content.items())) if isinstance(content, dict) else value
