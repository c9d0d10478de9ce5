"""Curves from other tools' files and into them: CompressAI's JSON, tensorflow/compression's text, codec-compare's JSON.

Each format is a module with ``read`` (text to :class:`ForeignCurve`) and ``write``; here names become hvqbench's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.analysis.curves import Curve, mean_curve, the_dataset
from hvqbench.curves.format import PublishedPoint, format_points, parse_points
from hvqbench.curves.library import PREFIX, find_published, is_published, published_curve, published_points
from hvqbench.errors import HvqbenchError
from hvqbench.files import atomic_write
from hvqbench.metrics.published import curve_metric

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("csv", "compressai", "tensorflow", "codec-compare")
"""What :func:`export_curves` writes; all but the first, which needs no import, are what :func:`import_curves` reads."""


@dataclass(frozen=True)
class ForeignCurve:
    """A curve as a file of another tool has it. *dataset* is empty where the file does not name one."""

    codec: str
    dataset: str
    metric: str
    """Already an id of :func:`~hvqbench.metrics.published.curve_metric`."""
    bpp: tuple[float, ...]
    values: tuple[float, ...]


def metric_of(name: str, known: Mapping[str, str], names: Mapping[str, str], where: str) -> str:
    """The metric's id of what a file calls *name*: as *names* say, else as the format has it, else an id as it is.

    Nothing is guessed: a name without a network or a plane is an error that asks for them.
    """
    chosen = names.get(name, known.get(name, name))
    try:
        return curve_metric(chosen).id
    except HvqbenchError:
        hint = f"say which metric it is, like --map {name}=lpips-alex (lpips-unknown if nobody knows)"
        raise HvqbenchError(
            f"{where}: {chosen!r} is not a metric of hvqbench: {hint}; docs/curves.md lists them"
        ) from None


def import_curves(
    files: Sequence[Path],
    source: str,
    *,
    codec: str | None = None,
    dataset: str | None = None,
    commit: str = "",
    protocol: str = "unknown",
    names: Mapping[str, str] | None = None,
) -> str:
    """The curves of *files* as CSV in the format of published curves.

    Parameters
    ----------
    files
        In any of the formats; which one is found out from the content.
    source, commit, protocol
        As in :class:`~hvqbench.curves.format.PublishedPoint`; the same for every point.
    codec, dataset
        Ids, instead of what the files say.
    names
        What the files call a metric, to its id.

    Raises
    ------
    HvqbenchError
        If a file is in no known format, names a metric that has no id, or a value is out of its metric's range.
    """
    points = []
    for path in files:
        for curve in _read(path, names or {}):
            place = dataset or curve.dataset
            if not place:
                raise HvqbenchError(f"{path} does not say which data set it is of: name it with --dataset")
            who = codec or as_id(curve.codec)
            points += [
                PublishedPoint(who, as_id(place), curve.metric, bpp, value, source, commit, protocol)
                for bpp, value in sorted(zip(curve.bpp, curve.values, strict=True))
            ]
    text = format_points(points)
    parse_points(text, "what was imported")
    return text


def export_curves(
    codecs: Iterable[str],
    kind: str,
    out: Path,
    results: pd.DataFrame | None = None,
    dataset: str | None = None,
    metrics: Sequence[str] | None = None,
) -> list[Path]:
    """Write curves of *codecs* on one data set into the folder *out*, in the format *kind* of :data:`FORMATS`.

    Parameters
    ----------
    codecs
        Codecs of *results*, and published ones with the prefix ``published:``.
    metrics
        By default all that a codec has there.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    HvqbenchError
        If there is no such curve, or the format cannot hold it: codec-compare has a row for each image, and published
        curves have means only.
    """
    from hvqbench.curves import codec_compare, compressai, tensorflow

    if kind not in FORMATS:
        raise HvqbenchError(f"unknown format {kind!r}: choose one of {', '.join(FORMATS)}")
    files: dict[str, str] = {}
    points: list[PublishedPoint] = []
    place = ""
    for name in codecs:
        for codec in [PREFIX + codec for codec in find_published([name])] if is_published(name) else [name]:
            place = dataset or _the_dataset(codec, results)
            if kind == "codec-compare":
                files |= codec_compare.write(codec, results, place, metrics)
                continue
            curves = _curves(codec, results, place, metrics)
            if kind == "compressai":
                files |= compressai.write(curves)
            elif kind == "tensorflow":
                files |= tensorflow.write(curves)
            else:
                points += _points(codec, curves)
    if kind == "codec-compare":
        files |= codec_compare.index(list(files))
    if points:
        files[f"{as_id(place)}.csv"] = format_points(points)
    written = []
    for relative, text in files.items():
        path = out / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text.encode())
        written.append(path)
    return written


def _read(path: Path, names: Mapping[str, str]) -> list[ForeignCurve]:
    from hvqbench.curves import codec_compare, compressai, tensorflow

    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise HvqbenchError(f"{path} is not a text in UTF-8; import JSON or text files") from None
    for format_ in (tensorflow, codec_compare, compressai):
        if format_.recognize(text):
            return format_.read(text, str(path), names)
    known = "CompressAI's JSON, codec-compare's JSON, tensorflow/compression's text"
    raise HvqbenchError(f"{path} is in none of the formats {known}; docs/curves.md says what they look like")


def _curves(codec: str, results: pd.DataFrame | None, dataset: str, metrics: Sequence[str] | None) -> list[Curve]:
    """Curves over the same images in all metrics, so that they share their rates."""
    if is_published(codec):
        own = [p for p in published_points() if (PREFIX + p.codec, p.dataset) == (codec, dataset)]
        chosen = list(metrics or dict.fromkeys(p.metric for p in own))
        if not chosen:
            raise HvqbenchError(
                f"no published curve of {codec.removeprefix(PREFIX)} on {dataset}: see `hvqbench curves ls`"
            )
        return [published_curve(codec, metric, dataset) for metric in chosen]
    frame = _given(codec, results)
    chosen = list(metrics) if metrics else measured_metrics(frame, codec, dataset)
    curves = [mean_curve(frame, codec, metric, dataset) for metric in chosen]
    common = set.intersection(*(set(curve.images) for curve in curves)) if curves else set()
    if not common:
        raise HvqbenchError(f"{codec} on {dataset} has no image with a value at every point: run it, or name --metric")
    return [mean_curve(frame, codec, metric, dataset, images=common) for metric in chosen]


def measured_metrics(results: pd.DataFrame, codec: str, dataset: str) -> list[str]:
    """The metrics that *codec* has a value of on *dataset*, in the registry's order; those of whole sets as well."""
    from hvqbench.metrics import metric_ids

    rows = results[(results["codec"] == codec) & (results["dataset"] == dataset)]
    return [name for name in metric_ids() if name in rows.columns and rows[name].notna().any()]


def _points(codec: str, curves: Iterable[Curve]) -> list[PublishedPoint]:
    import hvqbench

    if is_published(codec):
        wanted = {(curve.codec, curve.dataset, curve.metric) for curve in curves}
        return [p for p in published_points() if (p.codec, p.dataset, p.metric) in wanted]
    source = f"hvqbench {hvqbench.__version__}"
    return [
        PublishedPoint(c.codec, as_id(c.dataset), c.metric, float(bpp), float(value), source, "", _protocol(codec))
        for c in curves
        for bpp, value in zip(c.bpp, c.values, strict=True)
    ]


def _protocol(codec: str) -> str:
    from hvqbench.catalog import load_spec

    try:
        protocol = load_spec(codec).protocol
    except HvqbenchError:  # results of a codec that the catalog no longer has
        return "unknown"
    return f"{protocol.rate}: {protocol.note}" if protocol.note else protocol.rate


def _the_dataset(codec: str, results: pd.DataFrame | None) -> str:
    if not is_published(codec):
        return the_dataset(_given(codec, results), None)
    known = dict.fromkeys(p.dataset for p in published_points() if PREFIX + p.codec == codec)
    if len(known) > 1:
        raise HvqbenchError(f"{codec} has several data sets: name one of {', '.join(known)} with --dataset")
    return next(iter(known))


def _given(codec: str, results: pd.DataFrame | None) -> pd.DataFrame:
    if results is None:
        raise HvqbenchError(f"{codec} is a measured codec: name the folder of its results with --results")
    return results


def as_id(name: str) -> str:
    """*name* with everything replaced that an id, and a file's name, cannot have."""
    return re.sub(r"[^\w.@+-]+", "-", name).strip("-")
