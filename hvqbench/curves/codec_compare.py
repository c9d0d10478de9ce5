"""codec-compare's JSON: one codec, a row for each image and setting, as webmproject/codec-compare shows in a browser.

Descriptions and values are parallel lists: ``constant_descriptions``/``constant_values`` for the batch,
``field_descriptions``/``field_values`` for its rows. https://github.com/webmproject/codec-compare

A metric's field says in its description by which program it was computed, and that decides its id: codec-compare-gen's
PSNR is libwebp2's, not hvqbench's. What hvqbench writes begins its descriptions with ``hvqbench`` and the id.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hvqbench.curves.exchange import ForeignCurve, as_id, measured_metrics, metric_of
from hvqbench.errors import HvqbenchError
from hvqbench.metrics.published import curve_metric

if TYPE_CHECKING:
    import pandas as pd

CODEC_COMPARE: Mapping[str, tuple[str, str]] = {
    "psnr": ("libwebp2", "psnr-libwebp2"),
    "ssim": ("libwebp2", "ssim-libwebp2"),
    "dssim": ("kornelski", "dssim-kornelski"),
    "butteraugli": ("libjxl", "butteraugli-libjxl"),
    "ssimulacra": ("libjxl", "ssimulacra-libjxl"),
    "ssimulacra2": ("libjxl", "ssimulacra2-libjxl"),
    "p3norm": ("libjxl", "p3norm-libjxl"),
}
"""Field of codec-compare-gen: the implementation that its description must name, and then the metric's id."""
FIELDS = {"ms-ssim": "msssim", "lpips-alex": "lpips"}
"""What the viewer calls metrics that it knows, where that is not hvqbench's id."""

_OWN = re.compile(r"hvqbench ([\w.@+-]+), version")
_SETTINGS = ("effort", "chroma_subsampling")
_LISTS = ("constant_descriptions", "constant_values", "field_descriptions", "field_values")


def recognize(text: str) -> bool:
    """Whether *text* is a JSON object with the four lists."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and all(isinstance(content.get(name), list) for name in _LISTS)


def read(text: str, where: str, names: Mapping[str, str]) -> list[ForeignCurve]:
    """The mean curves in *text*: one for each metric and each setting of effort and chroma, over all images.

    A curve of one of several efforts is called ``<codec>-effort<n>``, of one of several subsamplings ``<codec>-420``.
    """
    content = json.loads(text)
    constants = dict(zip(_keys(content["constant_descriptions"]), content["constant_values"], strict=False))
    descriptions = {name: str(text) for entry in content["field_descriptions"] for name, text in entry.items()}
    rows = [dict(zip(descriptions, values, strict=False)) for values in content["field_values"]]
    needed = ("original_name", "width", "height", "encoded_size")
    for number, row in enumerate(rows, 1):
        if missing := [name for name in needed if name not in row]:
            raise HvqbenchError(f"{where}: field_values, row {number}: no {missing[0]}; add it to field_descriptions")
    metrics = {name: own for name, text in descriptions.items() if (own := _metric(name, text, names, where))}
    several = [name for name in _SETTINGS if len({row.get(name) for row in rows}) > 1]
    by_setting: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_setting[tuple(row[name] for name in several)].append(row)
    curves = []
    for setting, group in by_setting.items():
        codec = str(constants.get("codec", "unknown"))
        for name, value in zip(several, setting, strict=True):
            codec += f"-effort{value}" if name == "effort" else f"-{value}"
        points = _points(group, where)
        for field, own in metrics.items():
            bpp = tuple(fmean(8 * r["encoded_size"] / (r["width"] * r["height"]) for r in point) for point in points)
            values = tuple(fmean(float(r[field]) for r in point) for point in points)
            curves.append(ForeignCurve(codec, "", own, bpp, values))
    return curves


def write(codec: str, results: pd.DataFrame | None, dataset: str, metrics: Sequence[str] | None) -> dict[str, str]:
    """The rows of *codec* on *dataset* as ``{file name: content}``."""
    from hvqbench.curves.library import is_published

    if results is None or is_published(codec):
        raise HvqbenchError(
            f"{codec}: codec-compare has a row for each image, a published curve means only; use another"
        )
    rows = results[(results["codec"] == codec) & (results["dataset"] == dataset) & (results["status"] == "ok")]
    chosen = list(metrics) if metrics else measured_metrics(rows, codec, dataset)
    if rows.empty or not chosen:
        raise HvqbenchError(f"the results have no finished row of {codec} on {dataset}: run it first")
    infos = [curve_metric(name) for name in chosen]
    constants = {
        "name": ("Name of this batch", f"{codec} on {dataset}"),
        "codec": ("Name of the codec used to generate this data", codec),
        "version": ("Fingerprint of adapter, options, weights and libraries", str(rows["codec_fingerprint"].iloc[-1])),
        "time": ("When the newest row was made", str(rows["started"].max())[:19]),
        "encoding_cmd": ("The command that made the rows", str(rows["command"].iloc[-1])),
    }
    fields = {
        "original_name": ("Name of the original image", "image"),
        "width": ("Pixel columns in the original image", "width"),
        "height": ("Pixel rows in the original image", "height"),
        "quality": (f"Operating point: {rows['point_name'].iloc[0]}", "point"),
        "encoded_size": ("Size of the whole file in bytes", "bytes"),
        "encoding_time": ("Seconds; no speed unless nothing else ran", "encode_s"),
        "decoding_time": ("Seconds; no speed unless nothing else ran", "decode_s"),
    }
    for info in infos:
        text = f"hvqbench {info.id}, version {info.version}: {info.summary}"
        fields[FIELDS.get(info.id, info.id)] = (text, info.id)
    columns = [column for _, column in fields.values()]
    missing = [column for column in columns if column not in rows.columns]
    if missing:
        raise HvqbenchError(f"the results have no {missing[0]}: `hvqbench score --metric {missing[0]}` adds it")
    values = json.loads(rows[columns].to_json(orient="values"))
    for line, cells in zip(rows.itertuples(), values, strict=True):
        if None in cells:  # NaN and infinity are none in JSON
            column = columns[cells.index(None)]
            raise HvqbenchError(f"{codec}: {line.image} has no finite {column} at {line.point:g}: choose with --metric")
    content = {
        "constant_descriptions": [{name: text} for name, (text, _) in constants.items()],
        "constant_values": [value for _, value in constants.values()],
        "field_descriptions": [{name: text} for name, (text, _) in fields.items()],
        "field_values": values,
    }
    return {f"{as_id(dataset)}/{codec}.json": json.dumps(content, indent=1) + "\n"}


def index(names: Sequence[str]) -> dict[str, str]:
    """The list of batches that the viewer loads: ``index.html?load=batches.json``."""
    return {"batches.json": json.dumps([[name] for name in names], indent=1) + "\n"}


def _keys(descriptions: list[dict[str, str]]) -> list[str]:
    return [name for entry in descriptions for name in entry]


def _metric(field: str, description: str, names: Mapping[str, str], where: str) -> str:
    """The id of the metric in *field*; empty if it is no metric."""
    if field in names:
        return metric_of(field, {}, names, where)
    if own := _OWN.match(description):
        return curve_metric(own[1]).id
    if field in CODEC_COMPARE and CODEC_COMPARE[field][0] in description:
        return CODEC_COMPARE[field][1]
    if field in CODEC_COMPARE or field in FIELDS.values() or description.startswith("Distortion metric"):
        hint = f"say which metric it is, like --map {field}=psnr-unknown"
        raise HvqbenchError(f"{where}: {field!r} does not say which program computed it: {hint}")
    return ""


def _points(rows: list[dict[str, Any]], where: str) -> list[list[dict[str, Any]]]:
    """*rows* by their quality. Every point must have the same images, since means over different ones are no curve."""
    by_quality: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_quality[row.get("quality")].append(row)
    images = {row["original_name"] for row in rows}
    for quality, group in by_quality.items():
        if lost := images - {row["original_name"] for row in group}:
            name = sorted(map(str, lost))[0]
            raise HvqbenchError(f"{where}: {name} has no row at quality {quality}: add it or drop the image's others")
    return list(by_quality.values())
