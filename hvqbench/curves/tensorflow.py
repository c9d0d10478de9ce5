"""tensorflow/compression's text: one codec, one data set and one metric a file, as two columns.

::

    # Aggregate rate-distortion data for "BPG (4:4:4)" on kodak.
    # The first column contains bits per pixel (bpp) values.
    # The second column contains PSNR/sRGB/R'G'B' values.

    0.023857, 23.787652

The header names the metric with its colour plane; the folders ``PSNR_sRGB_RGB``, ``MS-SSIM_sRGB_Y`` and so on do as
well. MS-SSIM is not in dB. https://github.com/tensorflow/compression/tree/master/results/image_compression
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hvqbench.analysis.curves import Curve
from hvqbench.curves.exchange import ForeignCurve, as_id, metric_of
from hvqbench.errors import HvqbenchError

NAMES = {
    "PSNR/sRGB/R'G'B'": "psnr",
    "MS-SSIM/sRGB/R'G'B'": "ms-ssim",
    "PSNR/sRGB/Y'": "psnr-y",
    "MS-SSIM/sRGB/Y'": "ms-ssim-y",
}
"""The names of its second column."""

_TITLE = re.compile(r'^# Aggregate rate-distortion data for "(.+)" on (\S+?)\.?$', re.MULTILINE)
_METRIC = re.compile(r"^# The second column contains (\S+) values\.?$", re.MULTILINE)


def recognize(text: str) -> bool:
    """Whether *text* begins as these files do."""
    return _TITLE.match(text) is not None


def read(text: str, where: str, names: Mapping[str, str]) -> list[ForeignCurve]:
    """The curve in *text*."""
    title, metric = _TITLE.search(text), _METRIC.search(text)
    if title is None or metric is None:
        raise HvqbenchError(f"{where}: the header does not say what the second column is; docs/curves.md shows one")
    pairs = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                bpp, value = (float(cell) for cell in line.split(","))
            except ValueError:
                raise HvqbenchError(f"{where}: row {number}: {line!r} is not a pair like 0.125, 27.3") from None
            pairs.append((bpp, value))
    own = metric_of(metric[1], NAMES, names, where)
    return [ForeignCurve(title[1], title[2], own, tuple(bpp for bpp, _ in pairs), tuple(value for _, value in pairs))]


def write(curves: Sequence[Curve]) -> dict[str, str]:
    """*curves* of one codec on one data set, as ``{file name: content}``: a file in a folder for each metric."""
    foreign = {own: name for name, own in NAMES.items()}
    files = {}
    for curve in curves:
        metric = foreign.get(curve.metric, curve.metric)
        lines = [
            f'# Aggregate rate-distortion data for "{curve.codec}" on {curve.dataset}.',
            "# The first column contains bits per pixel (bpp) values.",
            f"# The second column contains {metric} values.",
            "",
            *(f"{bpp!r}, {value!r}" for bpp, value in zip(curve.bpp.tolist(), curve.values.tolist(), strict=True)),
        ]
        folder = metric.replace("R'G'B'", "RGB").replace("Y'", "Y").replace("/", "_")
        files[f"{as_id(curve.dataset)}/{folder}/{curve.codec}.txt"] = "\n".join(lines) + "\n"
    return files
