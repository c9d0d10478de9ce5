"""Image quality, as numbers. Every metric is one entry of :data:`METRICS`; none is loaded before it is asked for.

An installed package adds a metric through the entry-point group ``hvqbench.metrics``: the entry point's name is the
metric's id, and its object a :class:`MetricInfo`.

Examples
--------
>>> import numpy as np
>>> black = np.zeros((8, 8, 3), np.uint8)
>>> round(load_metric("psnr")(black, black + 1), 2)
48.13
"""

from __future__ import annotations

import math
from importlib import metadata

from hvqbench.catalog import load_object
from hvqbench.errors import HvqbenchError, did_you_mean
from hvqbench.metrics.base import Metric, MetricInfo, Reference

__all__ = ["METRICS", "Metric", "MetricInfo", "Reference", "load_metric", "metric_ids", "metric_info"]

_BUILT_IN = (
    MetricInfo(
        id="psnr",
        title="PSNR (RGB)",
        unit="dB",
        summary="peak signal-to-noise ratio over the three channels of sRGB; infinite for equal images",
        higher_is_better=True,
        range=(0.0, math.inf),
        target="hvqbench.metrics.pixel:PSNR",
    ),
    MetricInfo(
        id="ms-ssim",
        title="MS-SSIM (RGB)",
        unit="",
        summary="multi-scale structural similarity of the channels of sRGB, not in dB; undefined below 161 pixels",
        higher_is_better=True,
        range=(0.0, 1.0),
        target="hvqbench.metrics.pixel:MSSSIM",
        minimum_side=161,
        distributions={"pytorch_msssim": "pytorch-msssim"},
        reference="Wang, Simoncelli and Bovik, Asilomar 2003",
    ),
    MetricInfo(
        id="lpips-alex",
        title="LPIPS (AlexNet)",
        unit="",
        summary="learned perceptual distance v0.1, AlexNet: the LPIPS of most papers; undefined below 32 pixels",
        higher_is_better=False,
        range=(0.0, math.inf),
        target="hvqbench.metrics.lpips:LPIPS",
        options={"net": "alex"},
        minimum_side=32,
        distributions={"lpips": "lpips"},
        reference="Zhang et al., CVPR 2018",
    ),
    MetricInfo(
        id="lpips-vgg",
        title="LPIPS (VGG16)",
        unit="",
        summary="learned perceptual distance v0.1, VGG16: another scale than AlexNet's; undefined below 32 pixels",
        higher_is_better=False,
        range=(0.0, math.inf),
        target="hvqbench.metrics.lpips:LPIPS",
        options={"net": "vgg"},
        minimum_side=32,
        distributions={"lpips": "lpips"},
        reference="Zhang et al., CVPR 2018",
    ),
    MetricInfo(
        id="dists",
        title="DISTS",
        unit="",
        summary="deep image structure and texture similarity, at full resolution; undefined below 32 pixels",
        higher_is_better=False,
        range=(0.0, 1.0),
        target="hvqbench.metrics.dists:DISTS",
        minimum_side=32,
        distributions={"DISTS_pytorch": "dists-pytorch"},
        reference="Ding, Ma, Wang and Simoncelli, TPAMI 2020",
    ),
)
METRICS: dict[str, MetricInfo] = {info.id: info for info in _BUILT_IN}
"""The metrics that ship with hvqbench, in the order of their columns."""


def metric_ids() -> list[str]:
    """The ids of all metrics, those of installed packages last."""
    return [*METRICS, *sorted(_plugins())]


def metric_info(name: str) -> MetricInfo:
    """What metric *name* is; loads nothing."""
    if name in METRICS:
        return METRICS[name]
    plugins = _plugins()
    if name not in plugins:
        raise did_you_mean("metric", name, metric_ids())
    info = plugins[name].load()
    if not isinstance(info, MetricInfo) or info.id != name:
        raise HvqbenchError(f"the entry point {name!r} of {plugins[name].value} must be a MetricInfo with that id")
    return info


def load_metric(name: str) -> Metric:
    """The metric *name*; its weights are loaded by :meth:`Metric.prepare` or on first use."""
    info = metric_info(name)
    metric: Metric = load_object(info.target)(info)
    return metric


def _plugins() -> dict[str, metadata.EntryPoint]:
    return {entry.name: entry for entry in metadata.entry_points(group="hvqbench.metrics") if entry.name not in METRICS}
