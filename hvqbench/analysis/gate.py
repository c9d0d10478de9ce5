"""The gate: is a codec worse than its baseline? By deterministic quantities only: bytes, BD-rates, digests; never time.

For each codec of the baseline, over the images and points that it was saved with:

digests
    where the baseline asks for it and the codec's code is the same (its fingerprint), the bitstreams must be.
bytes
    at each operating point, of the images that are restored from the same (a VQ codec's indices, a classic codec's
    pixels: the row's digest). There the change of bytes is exact, and no curve is needed.
BD-rate
    in each metric, of the new curve against the old one. Where there is none (a codec of one point), neither bytes nor
    metric may be worse at any point; nor where the new curve, unlike the old one, has points that cost more bits for
    no better quality, which a BD-rate leaves out.

A total, of bytes or of a metric, is worse if it is beyond the tolerance: it was counted, and no sample of images makes
it uncertain. A BD-rate has a 95 % interval over the images, and is worse if it is beyond the tolerance and that
interval excludes zero; under five images there is no interval, and the tolerance decides alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hvqbench.analysis.baseline import Baseline, as_text, metrics_of
from hvqbench.analysis.bd import FLAGS, bd_rate
from hvqbench.analysis.bootstrap import NONE, Interval
from hvqbench.analysis.curves import COLUMNS
from hvqbench.analysis.estimands import per_image

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["fine", "better", "worse", "not measured"]
OLD, NEW = "baseline", "now"
ROUNDING = 1e-3
"""Per cent: a smaller change of a metric or a BD-rate is never worse. A network that restores pixels rounds otherwise
with other threads."""

SHOWN_IMAGES = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was compared, or could not be.

    *change* is in per cent, positive is worse; NaN where it is no matter of degree. *images* are those responsible,
    the most guilty first.
    """

    dataset: str
    codec: str
    what: str
    verdict: Verdict
    change: float = math.nan
    interval: Interval = NONE
    images: tuple[str, ...] = ()
    note: str = ""

    @property
    def shown_change(self) -> str:
        """The change with its interval: ``+0.51 % [+0.20 to +0.83 %]``; empty where it is no matter of degree."""
        if math.isnan(self.change):
            return ""
        low, high = self.interval
        return f"{self.change:+.2f} %" + ("" if math.isnan(low) else f" [{low:+.2f} to {high:+.2f} %]")

    @property
    def text(self) -> str:
        """In one line, without data set, codec and verdict."""
        said = f"{self.what} {self.shown_change}".rstrip() + (f": {self.note}" if self.note else "")
        return said + (f" ({', '.join(self.images)})" if self.images else "")


@dataclass(frozen=True)
class GateReport:
    """All findings against one baseline at one *tolerance*, in per cent."""

    baseline: str
    tolerance: float
    findings: tuple[Finding, ...]

    def of(self, verdict: Verdict) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.verdict == verdict)

    @property
    def compared(self) -> int:
        return len(self.findings) - len(self.of("not measured"))

    @property
    def exit_code(self) -> int:
        """0 fine; 1 something is worse; 2 something could not be measured, or nothing was compared."""
        if self.of("worse"):
            return 1
        return 2 if self.of("not measured") or not self.compared else 0

    @property
    def headline(self) -> str:
        """The outcome in one line."""
        against = f"against the baseline {self.baseline}, tolerance {self.tolerance:g} %"
        if worse := self.of("worse"):
            names = ", ".join(dict.fromkeys(finding.codec for finding in worse))
            return f"regression: {names} worse in {len(worse)} of {self.compared} comparisons {against}"
        if unmeasured := self.of("not measured"):
            return f"not measured: {len(unmeasured)} of {len(self.findings)} comparisons could not be made {against}"
        return f"fine: {self.compared} comparisons {against}" if self.compared else f"nothing was compared {against}"


def check(baseline: Baseline, results: pd.DataFrame, tolerance: float = 0.5) -> GateReport:
    """Compare *results* with *baseline*; *tolerance* in per cent."""
    found: list[Finding] = []
    results = as_text(results)
    for (dataset, codec), old in baseline.rows.groupby(["dataset", "codec"], sort=False):
        new = results[(results["dataset"] == dataset) & (results["codec"] == codec)] if len(results) else results
        found += _of_codec(str(dataset), str(codec), old, new, tolerance)
    return GateReport(baseline.name, tolerance, tuple(found))


def _of_codec(dataset: str, codec: str, old: pd.DataFrame, new: pd.DataFrame, tolerance: float) -> Iterator[Finding]:
    place = (dataset, codec)
    if new.empty:
        yield Finding(*place, "rows", "not measured", note="the results have none of this codec on this data set")
        return
    missing = yield from _missing(place, old, new)
    rows = old.merge(new[(new["status"] == "ok") & new["image"].ne("")], on=["point", "image"], suffixes=("", "_new"))
    rows = rows[rows["image_sha256"] == rows["image_sha256_new"]]
    if rows.empty:
        if not missing:
            yield Finding(*place, "rows", "not measured", note="no image at a point that the baseline has")
        return
    yield from _digests(place, rows)
    for point, at_point in rows.groupby("point", sort=True):
        same = at_point[at_point["digest"] == at_point["digest_new"]]
        if len(same):
            part = "" if len(same) == len(at_point) else f" of {len(same)} of {len(at_point)} images"
            yield _bytes(place, f"bytes {_where(at_point, point)}{part}", same, tolerance)
    for metric in metrics_of(old):
        yield from _metric(place, metric, rows, tolerance)


def _missing(place: tuple[str, str], old: pd.DataFrame, new: pd.DataFrame) -> Generator[Finding, None, bool]:
    """Findings for rows of the baseline that did not finish now; returns whether there are any."""
    known = new.drop_duplicates(["point", "image"], keep="last")
    rows = old.merge(known, on=["point", "image"], how="left", suffixes=("", "_new"))
    status = rows["status_new"].fillna("missing")
    failed = rows[status == "failed"]
    general = new.loc[new["point"].isna() & (new["status"] != "ok"), "reason"]  # of the codec as a whole
    if len(failed):
        note = f"{len(failed)} of {len(rows)} failed: {failed['reason'].iloc[0]}"
        yield Finding(*place, "rows", "worse", images=_some(failed["image"].unique()), note=note)
    absent = rows[~status.isin(["ok", "failed"])]
    if len(absent):
        reason = f": {general.iloc[0]}" if len(general) else ""
        note = f"{len(absent)} of {len(rows)} are missing{reason}"
        yield Finding(*place, "rows", "not measured", images=_some(absent["image"].unique()), note=note)
    other = rows[(status == "ok") & (rows["image_sha256"] != rows["image_sha256_new"])]
    if len(other):
        note = "the pixels of these images are others than the baseline's"
        yield Finding(*place, "rows", "not measured", images=_some(other["image"].unique()), note=note)
    return bool(len(failed) or len(absent) or len(other))


def _digests(place: tuple[str, str], rows: pd.DataFrame) -> Iterator[Finding]:
    held = rows[rows["exact"] & (rows["codec_fingerprint"] == rows["codec_fingerprint_new"])]
    if held.empty:
        return
    changed = held[(held["bitstream_sha256"] != held["bitstream_sha256_new"]) | (held["digest"] != held["digest_new"])]
    if changed.empty:
        yield Finding(*place, "digests", "fine", note=f"all {len(held)} bitstreams are the baseline's")
    else:
        note = f"{len(changed)} of {len(held)} bitstreams differ, though the codec's version and options are the same"
        yield Finding(*place, "digests", "worse", images=_some(changed["image"].unique()), note=note)


def _metric(place: tuple[str, str], metric: str, rows: pd.DataFrame, tolerance: float) -> Iterator[Finding]:
    name = f"BD-rate in {metric}"
    if metric not in rows or f"{metric}_new" not in rows or rows[f"{metric}_new"].isna().all():
        yield Finding(*place, name, "not measured", note=f"the results have no {metric}: score it")
        return
    measured = rows[metric].notna()
    lost = measured & rows[f"{metric}_new"].isna()
    stale = measured & ~lost & (_versions(rows["metrics"], metric) != _versions(rows["metrics_new"], metric))
    if not (measured & ~lost & ~stale).any():
        yield Finding(*place, name, "not measured", note="of another version of the metric: save the baseline again")
        return
    for some, trouble in ((lost, f"no {metric}"), (stale, f"another version of {metric}")):
        if some.any():
            note = f"{some.sum()} of {len(rows)} rows have {trouble}: score it"
            yield Finding(*place, metric, "not measured", images=_some(rows.loc[some, "image"].unique()), note=note)
    rows = rows.assign(**{f"{metric}_new": rows[f"{metric}_new"].mask(stale)})
    both = _as_codecs(rows, metric)
    bd = bd_rate(both, NEW, OLD, metric)
    broken = "non_monotone" in bd.flags and "non_monotone" not in bd_rate(both, OLD, OLD, metric, interval=False).flags
    if not math.isnan(bd.percent):
        interval = (bd.ci_low, bd.ci_high)
        verdict = judge(bd.percent, max(tolerance, ROUNDING), interval)
        images: tuple[str, ...] = ()
        if verdict == "worse":
            own = per_image(both, NEW, OLD, metric).table.dropna(subset="bd_rate_percent")
            images = _guilty(own["image"], own["bd_rate_percent"].to_numpy(float))
        note = f"the new curve is not monotone: {FLAGS['non_monotone']}" if broken else ""
        yield Finding(*place, name, verdict, bd.percent, interval, images, note)
    if broken or math.isnan(bd.percent):
        for point, at_point in rows.groupby("point", sort=True):
            if (at_point["digest"] != at_point["digest_new"]).any():
                yield _bytes(place, f"bytes {_where(at_point, point)}", at_point, tolerance)
            yield _quality(place, metric, _where(at_point, point), at_point, tolerance)


def _versions(texts: pd.Series, metric: str) -> pd.Series:
    return texts.map({text: json.loads(text or "{}").get(metric, "") for text in texts.unique()})


def _as_codecs(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The old and the new half of each of *rows* as rows of two codecs."""
    import pandas as pd

    names = [name for name in (*COLUMNS, metric) if f"{name}_new" in rows]
    new = rows[[f"{name}_new" for name in names]].set_axis(names, axis=1)
    halves = [half.assign(image=rows["image"], point=rows["point"]) for half in (rows[names], new)]
    return pd.concat([halves[0].assign(codec=OLD), halves[1].assign(codec=NEW)], ignore_index=True)


def _where(rows: pd.DataFrame, point: Any) -> str:
    return f"at {rows['point_name'].iloc[0]} {point:g}"


def _bytes(place: tuple[str, str], what: str, rows: pd.DataFrame, tolerance: float) -> Finding:
    """The change of total bytes."""
    old, new = rows["bytes"].to_numpy(float), rows["bytes_new"].to_numpy(float)
    change = float(100 * (new.sum() / old.sum() - 1))
    verdict = judge(change, tolerance)
    more, fewer = int((new > old).sum()), int((new < old).sum())
    note = f"more for {more} of {len(rows)} images, fewer for {fewer}" if more or fewer else ""
    images = _guilty(rows["image"], 100 * (new / old - 1)) if verdict == "worse" else ()
    return Finding(*place, what, verdict, change, images=images, note=note)


def _quality(place: tuple[str, str], metric: str, where: str, rows: pd.DataFrame, tolerance: float) -> Finding:
    """The change of a metric's total, signed so that positive is worse."""
    from hvqbench.metrics.published import curve_metric

    what = f"{metric} {where}"
    finite = rows[np.isfinite(rows[metric].astype(float)) & np.isfinite(rows[f"{metric}_new"].astype(float))]
    old, new = finite[metric].to_numpy(float), finite[f"{metric}_new"].to_numpy(float)
    if not len(finite) or not old.sum():
        return Finding(*place, what, "not measured", note=f"no finite {metric} to compare")
    sign = -1.0 if curve_metric(metric).higher_is_better else 1.0
    change = float(sign * 100 * (new.sum() - old.sum()) / abs(old.sum()))  # SSIMULACRA 2 may be below zero
    verdict = judge(change, max(tolerance, ROUNDING))
    with np.errstate(divide="ignore", invalid="ignore"):
        own = sign * 100 * (new - old) / np.abs(old)
    return Finding(*place, what, verdict, change, images=_guilty(finite["image"], own) if verdict == "worse" else ())


def judge(change: float, limit: float, interval: Interval = NONE) -> Verdict:
    """Worse or better beyond *limit*, in per cent; with an interval, only where all of it is on that side of zero."""
    low, high = interval
    if change > limit and not low <= 0:  # NaN: no interval, and the limit decides
        return "worse"
    return "better" if change < -limit and not high >= 0 else "fine"


def _guilty(images: Iterable[str], changes: np.ndarray) -> tuple[str, ...]:
    worst = sorted(zip(changes, images, strict=True), reverse=True)
    return tuple(f"{name} {change:+.2f} %" for change, name in worst[:SHOWN_IMAGES] if change > 0)


def _some(names: Iterable[str]) -> tuple[str, ...]:
    listed = [str(name) for name in names]
    more = len(listed) - SHOWN_IMAGES
    return (*listed[:SHOWN_IMAGES], *([f"{more} more"] if more > 0 else []))
