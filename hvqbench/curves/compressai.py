"""CompressAI's JSON: one codec on one data set, lists of the means at each point.

``{"name": "VTM", "description": "...", "results": {"bpp": [...], "psnr-rgb": [...], "ms-ssim-rgb": [...]}}``, as
``compressai.utils.bench`` prints it and ``results/image`` of its repository holds it. ``psnr`` and ``ms-ssim`` are what
its earlier releases called the same two (also without ``name`` and ``results`` around them, as MLIC's repository has
it). MS-SSIM is not in dB.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hvqbench.analysis.curves import Curve
from hvqbench.curves.exchange import ForeignCurve, as_id, metric_of
from hvqbench.errors import HvqbenchError

NAMES = {"psnr-rgb": "psnr", "ms-ssim-rgb": "ms-ssim"}
"""CompressAI's names of hvqbench's metrics."""

_TIMES = ("encoding_time", "decoding_time")


def recognize(text: str) -> bool:
    """Whether *text* is a JSON object with a list of rates."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and isinstance(_results(content).get("bpp"), list)


def read(text: str, where: str, names: Mapping[str, str]) -> list[ForeignCurve]:
    """The curves in *text*, one for each metric; times are not read."""
    content = json.loads(text)
    results = _results(content)
    codec = content.get("name") or Path(where).stem
    dataset = (content.get("meta") or {}).get("dataset") or ""
    curves = []
    for name, values in results.items():
        if name == "bpp" or name in _TIMES:
            continue
        metric = metric_of(name, NAMES, names, where)
        if not isinstance(values, list) or len(values) != len(results["bpp"]):
            raise HvqbenchError(f"{where}: {name} must be a list of {len(results['bpp'])} numbers, as many as bpp has")
        try:
            curves.append(
                ForeignCurve(codec, dataset, metric, tuple(map(float, results["bpp"])), tuple(map(float, values)))
            )
        except (TypeError, ValueError):
            raise HvqbenchError(
                f"{where}: {name} or bpp holds something that is not a number; correct the file"
            ) from None
    return curves


def write(curves: Sequence[Curve]) -> dict[str, str]:
    """*curves* of one codec on one data set, as ``{file name: content}``. All must have the same rates."""
    first = curves[0]
    foreign = {own: name for name, own in NAMES.items()}
    results = {"bpp": first.bpp.tolist()}
    for curve in curves:
        if curve.bpp.tolist() != results["bpp"]:
            other = f"{first.metric} and {curve.metric} of {first.codec} have different rates"
            raise HvqbenchError(f"{other}, which this format cannot hold: export one at a time with --metric")
        results[foreign.get(curve.metric, curve.metric)] = curve.values.tolist()
    content = {
        "name": first.codec,
        "description": "published curve" if first.published else f"mean of {len(first.images)} images, by hvqbench",
        "meta": {"dataset": first.dataset},
        "results": results,
    }
    return {f"{as_id(first.dataset)}/{first.codec}.json": json.dumps(content, indent=2) + "\n"}


def _results(content: dict[str, Any]) -> dict[str, Any]:
    results = content.get("results", content)
    return results if isinstance(results, dict) else {}
