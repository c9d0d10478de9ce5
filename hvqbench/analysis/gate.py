"""The gate: is a codec worse than its baseline? By deterministic quantities only: bytes, BD-rates, digests; never time.

For each codec of the baseline, over the images and points that it was saved with:

digests
    where the baseline asks for it and the codec's code is the same (its fingerprint), the bitstreams must be.
bytes
    at each operating point where all images are restored from the same (a VQ codec's indices, a classic codec's
    pixels: the row's digest). There the change of bytes is exact, and no curve is needed.
BD-rate
    in each metric, of the new curve against the old one. Where there is none (a codec of one point), neither bytes nor
    metric may be worse at any point; nor where the new curve, unlike the old one, has points that cost more bits for
    no better quality, which a BD-rate leaves out.

A change is worse if it is beyond the tolerance and its 95 % interval excludes zero. Too few images for an interval, and
the tolerance decides alone.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from hvqbench.analysis.baseline import Baseline, as_text, metrics_of, side_by_side
from hvqbench.analysis.bd import FLAGS, bd_rate
from hvqbench.analysis.bootstrap import NONE, Interval, ratio_interval
from hvqbench.analysis.estimands import per_image

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["fine", "better", "worse", "not measured"]
OLD, NEW = "baseline", "now"
ROUNDING = 1e-3
"""Per cent: a smaller change is never worse. A network that restores pixels rounds otherwise with other threads."""

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
    def text(self) -> str:
        """In one line, without data set, codec and verdict."""
        parts = [self.what]
        if not math.isnan(self.change):
            parts.append(f"{self.change:+.2f} %")
        if not math.isnan(self.interval[0]):
            parts.append(f"[{self.interval[0]:+.2f} to {self.interval[1]:+.2f}]")
        said = " ".join(parts) + (f": {self.note}" if self.note else "")
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
    same_points = []
    for point, at_point in rows.groupby("point", sort=True):
        if (at_point["digest"] == at_point["digest_new"]).all():
            same_points.append(point)
            what = f"bytes at {at_point['point_name'].iloc[0]} {point:g}"
            yield _judged(place, what, at_point, "bytes", tolerance)
    kept = new[new["image"].isin(rows["image"].unique())]
    both = side_by_side(old[old["image"].isin(rows["image"].unique())], kept, (OLD, NEW))
    for metric in metrics_of(old):
        yield from _metric(place, metric, both, rows, same_points, tolerance)


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


def _metric(
    place: tuple[str, str],
    metric: str,
    both: pd.DataFrame,
    rows: pd.DataFrame,
    same_points: list[Any],
    tolerance: float,
) -> Iterator[Finding]:
    if metric not in both or f"{metric}_new" not in rows or rows[f"{metric}_new"].isna().all():
        yield Finding(*place, f"BD-rate in {metric}", "not measured", note=f"the results have no {metric}: score it")
        return
    lost = rows[rows[metric].notna() & rows[f"{metric}_new"].isna()]
    if len(lost):
        note = f"{len(lost)} of {len(rows)} rows have no {metric}: score it"
        yield Finding(*place, metric, "not measured", images=_some(lost["image"].unique()), note=note)
    bd = bd_rate(both, NEW, OLD, metric)
    broken = "non_monotone" in bd.flags and "non_monotone" not in bd_rate(both, OLD, OLD, metric, interval=False).flags
    if "versions_differ" in bd.flags:
        note = "of another version of the metric: save the baseline again"
        yield Finding(*place, f"BD-rate in {metric}", "not measured", note=note)
    elif not math.isnan(bd.percent):
        interval = (bd.ci_low, bd.ci_high)
        verdict = _verdict(bd.percent, interval, tolerance)
        images: tuple[str, ...] = ()
        if verdict == "worse":
            own = per_image(both, NEW, OLD, metric).table.dropna(subset="bd_rate_percent")
            images = _guilty(own["image"], own["bd_rate_percent"].to_numpy(float))
        note = f"the new curve is not monotone: {FLAGS['non_monotone']}" if broken else ""
        yield Finding(*place, f"BD-rate in {metric}", verdict, bd.percent, interval, images, note)
    if "versions_differ" not in bd.flags and (broken or math.isnan(bd.percent)):
        for point, at_point in rows.groupby("point", sort=True):
            where = f"at {at_point['point_name'].iloc[0]} {point:g}"
            if point not in same_points:
                yield _judged(place, f"bytes {where}", at_point, "bytes", tolerance)
            yield _judged(place, f"{metric} {where}", at_point, metric, tolerance)


def _judged(place: tuple[str, str], what: str, rows: pd.DataFrame, column: str, tolerance: float) -> Finding:
    """The change of a total of *column* in per cent, signed so that positive is worse."""
    from hvqbench.curves.metrics import curve_metric

    finite = rows[np.isfinite(rows[column].astype(float)) & np.isfinite(rows[f"{column}_new"].astype(float))]
    old, new = finite[column].to_numpy(float), finite[f"{column}_new"].to_numpy(float)
    if not len(finite) or not old.sum():
        return Finding(*place, what, "not measured", note=f"no finite {column} to compare")
    sign = -1.0 if column != "bytes" and curve_metric(column).higher_is_better else 1.0
    sign *= np.sign(old.sum())  # SSIMULACRA 2 may be below zero
    change = float(sign * 100 * (new.sum() / old.sum() - 1))
    interval = ratio_interval(new, old)
    low, high = sorted(sign * end for end in interval)
    verdict = _verdict(change, (low, high), tolerance)
    with np.errstate(divide="ignore", invalid="ignore"):
        own = sign * 100 * (new - old) / np.abs(old)
    return Finding(
        *place, what, verdict, change, (low, high), _guilty(finite["image"], own) if verdict == "worse" else ()
    )


def _verdict(change: float, interval: Interval, tolerance: float) -> Verdict:
    low, high = interval
    limit = max(tolerance, ROUNDING)
    if change > limit and not low <= 0:  # NaN: no interval, and the tolerance decides
        return "worse"
    return "better" if change < -limit and not high >= 0 else "fine"


def _guilty(images: Iterable[str], changes: np.ndarray) -> tuple[str, ...]:
    worst = sorted(zip(changes, images, strict=True), reverse=True)
    return tuple(f"{name} {change:+.2f} %" for change, name in worst[:SHOWN_IMAGES] if change > 0)


def _some(names: Iterable[str]) -> tuple[str, ...]:
    listed = [str(name) for name in names]
    more = len(listed) - SHOWN_IMAGES
    return (*listed[:SHOWN_IMAGES], *([f"{more} more"] if more > 0 else []))
