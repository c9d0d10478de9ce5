"""Image quality, as numbers. Every metric is one entry of :data:`METRICS`; none is loaded before it is asked for.

Any metric of the package pyiqa is there as well, as ``pyiqa:<its name>``, where the extra ``pyiqa`` is installed.
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
from hvqbench.metrics.base import Metric, MetricInfo, Reference, SetMetric

__all__ = [
    "EXTRAS",
    "METRICS",
    "Metric",
    "MetricInfo",
    "Reference",
    "SetMetric",
    "load_metric",
    "load_set_metric",
    "metric_id",
    "metric_ids",
    "metric_info",
]

_INCEPTION = "InceptionV3 of 2015-12-05, 2048 features"
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
        id="ssimulacra2",
        title="SSIMULACRA2",
        unit="",
        summary="multi-scale structural similarity in XYB, tuned to opinion scores; undefined below 8 pixels",
        higher_is_better=True,
        range=(-math.inf, 100.0),
        target="hvqbench.metrics.ssimulacra2:SSIMULACRA2",
        minimum_side=8,
        distributions={"ssimulacra2": "ssimulacra2"},
        reference="Sneyers, Cloudinary 2022",
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
        net="AlexNet, LPIPS v0.1",
        input="[-1, 1]",
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
        net="VGG16, LPIPS v0.1",
        input="[-1, 1]",
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
        net="VGG16",
        input="[0, 1], not resized",
        minimum_side=32,
        distributions={"DISTS_pytorch": "dists-pytorch"},
        version="2",
        reference="Ding, Ma, Wang and Simoncelli, TPAMI 2020",
    ),
    MetricInfo(
        id="fid-256",
        title="FID/256",
        unit="",
        summary="Fréchet distance of Inception features, over 256-pixel tiles of the whole set and the half-tile shift",
        higher_is_better=False,
        range=(0.0, math.inf),
        target="hvqbench.metrics.fid:FID",
        net=_INCEPTION,
        input="[-1, 1), tiles resized to 299 as TensorFlow 1 did",
        minimum_side=256,
        minimum_patches=2049,  # fewer than features + 1, and a covariance has no full rank
        distributions={"torch_fidelity": "torch-fidelity"},
        reference="Heusel et al., NeurIPS 2017; Mentzer et al. (HiFiC), NeurIPS 2020",
    ),
    MetricInfo(
        id="kid-256",
        title="KID/256",
        unit="",
        summary="kernel distance (squared MMD, unbiased) of the same features over the same tiles; may be negative",
        higher_is_better=False,
        range=(-math.inf, math.inf),
        target="hvqbench.metrics.fid:KID",
        net=_INCEPTION,
        input="[-1, 1), tiles resized to 299 as TensorFlow 1 did",
        minimum_side=256,
        minimum_patches=1000,  # the size of a subset in the authors' protocol
        distributions={"torch_fidelity": "torch-fidelity"},
        reference="Binkowski et al., ICLR 2018; Mentzer et al. (HiFiC), NeurIPS 2020",
    ),
)
METRICS: dict[str, MetricInfo] = {info.id: info for info in _BUILT_IN}
"""The metrics that ship with hvqbench, in the order of their columns."""

_OPTIONAL = (
    MetricInfo(
        id="cvvdp",
        title="ColorVideoVDP",
        unit="JOD",
        summary="visible differences as just-objectionable ones, on a 4K monitor: 10 for none, 9 a visible one",
        higher_is_better=True,
        range=(-math.inf, 10.0),
        target="hvqbench.metrics.cvvdp:ColorVideoVDP",
        options={"display": "standard_4k"},
        net="no network: contrast sensitivity and masking; display standard_4k, 75.4 pixels per degree, 200 cd/m²",
        minimum_side=32,
        distributions={"pycvvdp": "cvvdp"},
        reference="Mantiuk et al., SIGGRAPH 2024",
    ),
)
EXTRAS: dict[str, MetricInfo] = {info.id: info for info in _OPTIONAL}
"""Those whose package is an extra: they are computed where they are named, and not by default."""

PYIQA = "pyiqa:"
"""What the ids of pyiqa's metrics begin with."""


def metric_ids() -> list[str]:
    """The ids of all metrics: those that ship, those of extras, those of installed packages."""
    return [*METRICS, *EXTRAS, *sorted(_plugins())]


def metric_id(name: str) -> str:
    """The id that *name* is short for, ``lpips-alex`` for ``lpips``: the first that goes on with a dash; else *name*.

    >>> metric_id("lpips"), metric_id("fid"), metric_id("psnr"), metric_id("nothing")
    ('lpips-alex', 'fid-256', 'psnr', 'nothing')
    """
    if name in METRICS or name.startswith(PYIQA):
        return name
    known = metric_ids()  # reads what is said of every installed package
    return name if name in known else next((one for one in known if one.startswith(f"{name}-")), name)


def metric_info(name: str) -> MetricInfo:
    """What metric *name*, an id or what is short for one, is; loads nothing.

    Raises
    ------
    HvqbenchError
        There is no such metric, or it is one of pyiqa's and pyiqa is not installed.
    """
    name = metric_id(name)
    if name in METRICS or name in EXTRAS:
        return METRICS.get(name) or EXTRAS[name]
    if name.startswith(PYIQA):
        from hvqbench.metrics.pyiqa import pyiqa_info

        return pyiqa_info(name)
    plugins = _plugins()
    if name not in plugins:
        raise did_you_mean("metric", name, metric_ids())
    info = plugins[name].load()
    if not isinstance(info, MetricInfo) or info.id != name:
        raise HvqbenchError(f"the entry point {name!r} of {plugins[name].value} must be a MetricInfo with that id")
    return info


def load_metric(name: str) -> Metric:
    """The metric *name* of one image; its weights are loaded by :meth:`Metric.prepare` or on first use."""
    info = metric_info(name)
    if info.of_set:
        raise HvqbenchError(
            f"{name} is of a whole set and has no value for one image: `hvqbench run` computes it for a data set"
        )
    metric: Metric = load_object(info.target)(info)
    return metric


def load_set_metric(name: str) -> SetMetric:
    """The metric *name* of a whole set of images; its weights are loaded when it first describes an image."""
    info = metric_info(name)
    if not info.of_set:
        raise HvqbenchError(f"{name} is a metric of one image, not of a set: load it with load_metric")
    metric: SetMetric = load_object(info.target)(info)
    return metric


def _plugins() -> dict[str, metadata.EntryPoint]:
    own = METRICS.keys() | EXTRAS.keys()
    return {entry.name: entry for entry in metadata.entry_points(group="hvqbench.metrics") if entry.name not in own}
