"""The metrics of published curves: hvqbench's own, and those that it must not take for its own.

A published number counts as one of hvqbench's metrics only where network, colour plane, range and version agree. One
that differs has an id of its own, and where the source does not say, the id ends in ``-unknown``. Curves of two ids
never meet in a panel or in a BD-rate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from hvqbench.errors import HvqbenchError, closest
from hvqbench.metrics import METRICS, PYIQA, metric_ids, metric_info
from hvqbench.metrics.base import MetricInfo

_UP, _DOWN = True, False
_DECIBELS, _SHARE, _DISTANCE, _SIGNED = (-math.inf, math.inf), (0.0, 1.0), (0.0, math.inf), (-math.inf, math.inf)


def _published(
    name: str, title: str, better: bool, extent: tuple[float, float], summary: str, unit: str = ""
) -> MetricInfo:
    return MetricInfo(name, title, unit, summary, better, extent, target="")


_TILES = "256-pixel tiles and, half a tile further, tiles again, as HiFiC has it"
_ENTRIES = (
    _published("psnr-y", "PSNR (Y)", _UP, _DECIBELS, "of luma", "dB"),
    _published("ms-ssim-y", "MS-SSIM (Y)", _UP, _SHARE, "of luma: what pyiqa calls ms_ssim"),
    _published("ms-ssim-db", "MS-SSIM (RGB)", _UP, _DECIBELS, "-10 log10(1 - MS-SSIM) of the mean, or its mean", "dB"),
    _published("psnr-unknown", "PSNR (plane unknown)", _UP, _DECIBELS, "the source does not say of which planes", "dB"),
    _published("ms-ssim-unknown", "MS-SSIM (plane unknown)", _UP, _SHARE, "the source does not say of which planes"),
    _published("lpips-unknown", "LPIPS (net unknown)", _DOWN, _DISTANCE, "the source does not say by which network"),
    _published("fid-swav-256", "FID-SwAV/256", _DOWN, _DISTANCE, f"{_TILES}; features of SwAV"),
    _published("fid-256-tf", "FID/256 (TensorFlow)", _DOWN, _DISTANCE, f"{_TILES}; TensorFlow's Inception"),
    _published("kid-256-tf", "KID/256 (TensorFlow)", _DOWN, _SIGNED, f"{_TILES}; TensorFlow's Inception"),
    _published("fid-256-pytorch-fid", "FID/256 (pytorch-fid)", _DOWN, _DISTANCE, f"{_TILES}; pytorch-fid"),
    _published("fid-256-clean-fid", "FID/256 (clean-fid)", _DOWN, _DISTANCE, "256-pixel tiles, shifted too; clean-fid"),
    _published("fid-unknown", "FID (protocol unknown)", _DOWN, _DISTANCE, "tiles and features are not said"),
    _published("kid-unknown", "KID (protocol unknown)", _DOWN, _SIGNED, "tiles and features are not said"),
    _published("psnr-libwebp2", "PSNR (libwebp2)", _UP, _DECIBELS, "as codec-compare-gen has it", "dB"),
    _published("ssim-libwebp2", "SSIM (libwebp2)", _UP, _DECIBELS, "as codec-compare-gen has it", "dB"),
    _published("dssim-kornelski", "DSSIM (kornelski)", _DOWN, _DISTANCE, "as codec-compare-gen has it"),
    _published("butteraugli-libjxl", "Butteraugli (libjxl)", _DOWN, _DISTANCE, "as codec-compare-gen has it"),
    _published("ssimulacra-libjxl", "SSIMULACRA (libjxl)", _DOWN, _DISTANCE, "as codec-compare-gen has it"),
    _published("ssimulacra2-libjxl", "SSIMULACRA2 (libjxl)", _UP, (-math.inf, 100.0), "as codec-compare-gen has it"),
    _published("p3norm-libjxl", "Butteraugli 3-norm (libjxl)", _DOWN, _DISTANCE, "as codec-compare-gen has it"),
)
PUBLISHED_METRICS: Mapping[str, MetricInfo] = {info.id: info for info in _ENTRIES}
"""Metrics that only published curves have; hvqbench does not compute them."""


def curve_metric(name: str) -> MetricInfo:
    """What metric *name* of a published curve is; a :class:`HvqbenchError` if there is none of that id.

    >>> curve_metric("ms-ssim-y").range, curve_metric("psnr").unit
    ((0.0, 1.0), 'dB')
    """
    if name in METRICS:
        return METRICS[name]
    if name in PUBLISHED_METRICS:
        return PUBLISHED_METRICS[name]
    known = [*metric_ids(), *PUBLISHED_METRICS]
    if name not in known and not name.startswith(PYIQA):
        raise HvqbenchError(f"unknown metric {name!r}: {closest(name, known)}docs/curves.md lists them all")
    return metric_info(name)
