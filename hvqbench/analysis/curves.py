"""Rate-distortion curves, and bytes saved at equal reconstruction, from the table of results.

A curve is a data set's mean: at each operating point the mean of the images' bits per pixel and the mean of their
metric, over the same images at every point. An image that failed at one point would otherwise bend the curve there. A
metric of whole sets (FID) has one value at each point, over all images; its rate is their mean.

A curve holds one version of its metric: values of older ones are left out.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Curve:
    """The mean rate-distortion curve of one codec on one data set.

    Parameters
    ----------
    codec, dataset, metric
        Their ids.
    points
        Operating points, sorted, in the codec's own unit.
    bpp, values
        Mean bits per pixel and mean metric at each point; shape ``(len(points),)``.
    images
        Names of the images averaged, the same at every point.
    notes
        What was left out and why, one line each; empty if nothing was.
    published
        Whether others measured it: then it is of means only, and *points* count its points.
    version
        The metric's version and those of its libraries; empty if unknown.
    """

    codec: str
    dataset: str
    metric: str
    points: tuple[float, ...]
    bpp: NDArray[np.float64]
    values: NDArray[np.float64]
    images: tuple[str, ...]
    notes: tuple[str, ...] = ()
    published: bool = False
    version: str = ""

    @property
    def label(self) -> str:
        """The codec's name for a reader, who must not take a published curve for a measured one."""
        return f"{self.codec} (published)" if self.published else self.codec


def mean_curve(
    results: pd.DataFrame, codec: str, metric: str, dataset: str | None = None, *, images: Collection[str] | None = None
) -> Curve:
    """The mean curve of *codec* in *metric*, over the images that have a finite value at all of its points.

    The curve of a metric of whole sets is of all images of the codec, or it has no points.

    Parameters
    ----------
    results
        One row per codec, operating point and image, as :func:`hvqbench.read_results` returns them.
    dataset
        May be left out if the results hold only one.
    images
        Average over these only, to compare two codecs on the images that both have.

    Raises
    ------
    HvqbenchError
        If the codec, the metric or the data set is not in the results. A codec without one usable image is no error:
        its curve has no points, and its notes say why.
    """
    dataset = the_dataset(results, dataset)
    if metric not in results.columns:
        raise HvqbenchError(f"the results have no metric {metric!r}: run again with --metric {metric}")
    rows = results[(results["dataset"] == dataset) & (results["codec"] == codec)]
    if rows.empty:
        known = ", ".join(sorted(results.loc[results["dataset"] == dataset, "codec"].unique()))
        raise HvqbenchError(f"the results have no codec {codec!r} on {dataset}: they have {known}; run it first")
    rows, version, notes = _one_version(rows, metric)
    of_set = rows[rows["status"] == "set"]
    rows = rows[rows["status"] != "set"]
    if of_set[metric].notna().any():
        return _set_curve(of_set[of_set[metric].notna()], rows, codec, metric, version, images)
    if images is not None:
        rows = rows[rows["image"].isin(list(images))]

    is_finite = np.isfinite(rows[metric].to_numpy(float, na_value=np.nan))
    usable = rows[(rows["status"] == "ok").to_numpy() & is_finite]
    value = usable.pivot_table(index="image", columns="point", values=metric, aggfunc="mean")
    bpp = usable.pivot_table(index="image", columns="point", values="bpp", aggfunc="mean")
    complete = value.notna().all(axis=1)
    value, bpp = value[complete], bpp[complete]
    return Curve(
        codec=codec,
        dataset=dataset,
        metric=metric,
        points=tuple(float(p) for p in value.columns) if len(value) else (),
        bpp=bpp.mean().to_numpy(float) if len(value) else np.empty(0),
        values=value.mean().to_numpy(float) if len(value) else np.empty(0),
        images=tuple(str(name) for name in value.index),
        notes=(*notes, *_notes(rows, usable, complete, metric)),
        version=version,
    )


def _one_version(rows: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, str, list[str]]:
    """*rows* without the values of *metric* in any version but its newest, that version, and a note if some had one."""
    if not {"metrics", "started"} <= set(rows.columns):
        return rows, "", []
    versions = rows["metrics"].map(lambda text: json.loads(text or "{}").get(metric, ""))
    measured = rows[(versions != "") & rows[metric].notna()]
    if measured.empty:
        return rows, "", []
    newest: str = max(zip(measured["started"], versions[measured.index], strict=True))[1]
    old = measured.index[versions[measured.index] != newest]
    if old.empty:
        return rows, newest, []
    rows = rows.copy()
    rows.loc[old, metric] = np.nan
    note = f"{len(old)} rows have an older {metric} than {newest}: `hvqbench score --metric {metric}` renews them"
    return rows, newest, [note]


def _set_curve(
    of_set: pd.DataFrame,
    rows: pd.DataFrame,
    codec: str,
    metric: str,
    version: str,
    images: Collection[str] | None,
) -> Curve:
    own = tuple(sorted(str(name) for name in rows.loc[rows["status"] == "ok", "image"].unique()))
    notes = []
    if images is not None and set(images) != set(own):
        notes.append(f"{metric} is of all {len(own)} images, and cannot be had of {len(set(images))} of them")
        of_set = of_set[:0]
    lost = sorted(set(rows["point"].dropna()) - set(of_set["point"]))
    if lost and not notes:
        notes.append(f"no {metric} at point {', '.join(f'{p:g}' for p in lost)}")
    of_set = of_set.sort_values("point")
    return Curve(
        codec=codec,
        dataset=str(rows["dataset"].iloc[0]) if len(rows) else "",
        metric=metric,
        points=tuple(float(p) for p in of_set["point"]),
        bpp=of_set["bpp"].to_numpy(float),
        values=of_set[metric].to_numpy(float),
        images=own,
        notes=tuple(notes),
        version=version,
    )


def saving_table(results: pd.DataFrame, anchor: str = "fixed-vq") -> pd.DataFrame:
    """Bytes saved against *anchor* at equal operating point, for the codecs that code the same indices (VQ codecs).

    At rate-control weight 0 all index models of one tokenizer reconstruct the same pixels, so the saving is exact: no
    curve and no interpolation. ``same_pixels`` says where that holds, from the digests of the reconstructions.

    Returns
    -------
    pandas.DataFrame
        One row per data set, codec and shared point: ``images``, ``bytes`` and ``anchor_bytes`` (totals over the images
        that both have), ``saved_percent`` (of the totals), ``mean_saved_percent`` (mean over images), ``same_pixels``.
        Empty if there is nothing to compare.
    """
    import pandas as pd

    columns = ["dataset", "codec", "anchor", "point", "images", "bytes", "anchor_bytes"]
    columns += ["saved_percent", "mean_saved_percent", "same_pixels"]
    ok = results[results["status"] == "ok"]
    if "bytes.indices" not in ok.columns:
        return pd.DataFrame(columns=columns)
    ok = ok[ok["bytes.indices"].notna()]
    key = ["dataset", "point", "image"]
    pairs = ok[ok["codec"] != anchor].merge(ok[ok["codec"] == anchor], on=key, suffixes=("", "_of_anchor"))
    rows = []
    for (dataset, codec, point), group in pairs.groupby(["dataset", "codec", "point"], sort=True):
        own, other = group["bytes"].astype(float), group["bytes_of_anchor"].astype(float)
        same = group["reconstruction_sha256"] == group["reconstruction_sha256_of_anchor"]
        saved, mean_saved = 100 * (1 - own.sum() / other.sum()), 100 * (1 - own / other).mean()
        totals = (int(own.sum()), int(other.sum()))
        rows.append((dataset, codec, anchor, point, len(group), *totals, saved, mean_saved, bool(same.all())))
    return pd.DataFrame(rows, columns=columns)


def the_dataset(results: pd.DataFrame, dataset: str | None) -> str:
    """*dataset* if the results hold it, or the only one that they hold."""
    if results.empty:
        raise HvqbenchError("there are no results: run `hvqbench run` first, or name the folder with --results")
    known = sorted(results["dataset"].unique())
    if dataset is None and len(known) == 1:
        return str(known[0])
    if dataset is None or dataset not in known:
        problem = (
            "several data sets are in the results" if dataset is None else f"the results have no data set {dataset!r}"
        )
        raise HvqbenchError(f"{problem}: name one of {', '.join(known)} with --dataset")
    return dataset


def _notes(rows: pd.DataFrame, usable: pd.DataFrame, complete: pd.Series, metric: str) -> list[str]:
    """What a curve leaves out of *rows*, in words."""
    notes = []
    lost_points = sorted(set(rows["point"].dropna()) - set(usable["point"]))
    if lost_points:
        notes.append(f"no usable row at point {', '.join(f'{p:g}' for p in lost_points)}")
    not_finite = int((rows["status"] == "ok").sum()) - len(usable)
    if not_finite:
        notes.append(f"{not_finite} of {len(rows)} rows have no finite {metric}")
    known = set(rows["image"].dropna()) - {""}  # a codec that cannot run has one row, without an image
    unusable = sorted(known - set(usable["image"]))
    dropped = [*unusable, *complete.index[~complete]]
    if dropped:
        names = ", ".join(str(name) for name in dropped[:3]) + (", ..." if len(dropped) > 3 else "")
        notes.append(f"{len(dropped)} of {len(known)} images left out, not usable at every point: {names}")
    return notes
