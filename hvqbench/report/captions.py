"""Captions that stand alone: what is shown, against what, on which data set, of how many images, which interval, units.

>>> place("kodak", [24, 22])
'kodak (22 to 24 images)'
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hvqbench.grid import is_numeric
from hvqbench.manifest import size_of
from hvqbench.report.table import ARROWS, Table

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.analysis import Curve
    from hvqbench.metrics import MetricInfo
    from hvqbench.report.names import Names

RATE = "Rate is the whole file in bits per pixel of the original (bpp)."
BAND = "Shaded or as a bar: the 95 % interval of the mean over images, by resampling them."


def place(dataset: str, counts: Iterable[int]) -> str:
    """``kodak (24 images)``: a data set, and of how many of its images something is."""
    some = sorted({count for count in counts if count})
    if not some:
        return dataset
    span = " to ".join(dict.fromkeys((str(some[0]), str(some[-1]))))
    return f"{dataset} ({span} image{'s' * (some[-1] != 1)})"


def listed(words: Sequence[str]) -> str:
    """``a, b and c``.

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def quantity(info: MetricInfo) -> str:
    """``PSNR (RGB) in dB (higher is better)``."""
    unit = f" in {info.unit}" if info.unit else ""
    return f"{info.title}{unit} ({'higher' if info.higher_is_better else 'lower'} is better)"


def partial(curves: Iterable[Curve]) -> str:
    """What a reader must know of published curves beside measured ones of fewer images; empty if nothing.

    A published curve is of all images of its data set; the number of these is known where the catalog has a manifest.
    """
    curves = list(curves)
    measured = [curve for curve in curves if not curve.published]
    if len(measured) == len(curves) or not measured:
        return ""
    whole = size_of(measured[0].dataset)
    some = min(len(curve.images) for curve in measured)
    if whole is None or some >= whole:
        return ""
    return f"measured: {some} of {whole} images; published (dotted): all {whole}"


def rd(
    curves: Mapping[str, Sequence[Curve]],
    infos: Mapping[str, MetricInfo],
    dataset: str,
    classic: Collection[str],
    has_bands: bool,
) -> str:
    """Of rate-distortion curves; codecs, titles and *dataset* are as they are shown."""
    every = [curve for of_metric in curves.values() for curve in of_metric]
    measured = [curve for curve in every if not curve.published]
    published = list(dict.fromkeys(curve.codec for curve in every if curve.published))
    codecs = list(dict.fromkeys(curve.codec for curve in measured))
    where = place(dataset, [len(curve.images) for curve in measured])
    what = "; ".join(quantity(infos[metric]) for metric in curves)
    parts = [f"Rate-distortion curves of {listed(codecs)} on {where}: mean {what}, over mean rate.", RATE]
    if has_bands:
        parts.append(BAND)
    elif any(not infos[metric].of_set for metric in curves):
        parts.append("No interval: there are fewer than 5 images.")
    if dashed := [codec for codec in codecs if codec in classic]:
        parts.append(f"Dashed: {listed(dashed)}, classic.")
    if published:
        note = partial(every)
        parts.append(f"Dotted: {listed(published)}, as published by others: means, without an interval.")
        parts += [f"Not of the same images: {note}."] if note else []
    return " ".join(parts)


def ledger(where: str) -> str:
    """Of stacked bars of streams."""
    return (
        f"Where the bits go: mean rate of each stream of the file on {where}, in bits per pixel of the original "
        "(bpp), at the operating point beside each codec; the number is the whole file's. Means, without an interval."
    )


def per_image(where: str, anchor: str, title: str) -> str:
    """Of the BD-rate of each image."""
    return (
        f"BD-rate of each image against {anchor} at equal {title}, in per cent, on {where}: negative is fewer bits "
        f"than {anchor}. Each dot is an image, the bar their median; an image whose curves share no quality has no "
        "dot. No interval: these are the images themselves."
    )


def speed(where: str, anchor: str, title: str) -> str:
    """Of BD-rate over speed."""
    return (
        f"Rate against speed on {where}: BD-rate against {anchor} at equal {title}, in per cent (negative is fewer "
        "bits; lines are 95 % intervals, of resampled images), over megapixels per second (MP/s) of encoding and of "
        "decoding, from a serial pass on one machine."
    )


def usage(where: str, codec: str, point: float) -> str:
    """Of the use of a codebook."""
    return (
        f"How often {codec} uses each codeword on {where}, at L = {point:g}: the share of indices that each has, by "
        "rank, against a uniform share; dashed, in the training set. Shares, without an interval."
    )


def bits(where: str, codec: str, point: float) -> str:
    """Of the bits of each index."""
    return (
        f"What each index of {codec} costs on {where}, at L = {point:g}: bits of the index, laid over the image. No "
        "mean, so no interval."
    )


def complete(table: Table, infos: Mapping[str, MetricInfo], names: Names) -> str:
    """A caption of *table*: its title and introduction, where it is of, and the units of its columns."""
    frame = table.frame
    parts = [f"{table.title}.", re.sub(r" All on .+\.$", "", table.intro)]  # said below, with the number of images
    parts.append(_no_interval(frame))
    if "dataset" in frame.columns and len(frame):
        counted = "images" in frame.columns and is_numeric(frame["images"])  # elsewhere it is names
        counts: dict[Any, Iterable[int]] = {
            name: own["images"].dropna().astype(int) if counted else []
            for name, own in frame.groupby("dataset", sort=False)
        }
        named = [place(names(str(name)), own) for name, own in counts.items()]
        parts.append(f"On {listed(named)}.")
    heads = {header.rpartition(" ")[0] for header in table.headers if header[-1:] == ARROWS[True]}
    shown = {name: name if name in heads else info.title for name, info in infos.items() if info.unit}
    units = [f"{title} in {infos[name].unit}" for name, title in shown.items() if title in heads]
    units += ["bpp is bits per pixel"] if "bpp" in table.headers else []
    return " ".join(filter(None, [*parts, f"Units: {', '.join(units)}." if units else ""]))


def _no_interval(frame: pd.DataFrame) -> str:
    """Why no BD-rate of *frame* has an interval; empty where one has, or where there is no BD-rate to have one."""
    if "ci_low" not in frame.columns or frame["ci_low"].notna().any():
        return ""
    numbers = frame[frame["bd_rate_percent"].notna()].to_dict("records")
    reasons = dict.fromkeys(map(_why_none, numbers))
    return f"Here there is no interval: {'; '.join(reasons)}." if reasons else ""


def _why_none(row: Mapping[Any, Any]) -> str:
    from hvqbench.analysis.bootstrap import FEWEST_IMAGES
    from hvqbench.metrics.published import curve_metric

    if "published" in str(row["flags"]).split():
        return "published curves are of means, with no images to resample"
    if curve_metric(row["metric"]).of_set:
        return "a metric of a whole set has no images to resample"
    if row["images"] < FEWEST_IMAGES:
        return f"there are fewer than {FEWEST_IMAGES} images"
    return "of too many resamples the curves share no quality"


def captioned(table: Table, infos: Mapping[str, MetricInfo], names: Names) -> Table:
    """*table* under its complete caption, for LaTeX, which shows no introduction."""
    return replace(table, title=complete(table, infos, names).rstrip("."))


def float_of(stem: str, caption: str, label: str, wide: bool) -> str:
    """A LaTeX float that includes the figure *stem*, without an extension, for ``\\input``."""
    from hvqbench.report.latex import escape

    environment = "figure*" if wide else "figure"
    lines = (
        "% \\usepackage{graphicx}",
        f"\\begin{{{environment}}}[t]",
        "\\centering",
        f"\\includegraphics{{{stem}}}",
        f"\\caption{{{escape(caption)}}}",
        f"\\label{{fig:{label}}}",
        f"\\end{{{environment}}}",
    )
    return "\n".join(lines) + "\n"
