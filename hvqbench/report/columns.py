"""The columns of tables: what they are called, to how many decimals they are rounded, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hvqbench.report.table import ARROWS, Heading

if TYPE_CHECKING:
    from hvqbench.metrics import MetricInfo

COLUMNS: Mapping[str, Heading] = {
    "anchor": Heading(hint="what it is compared with"),
    "anchor_bytes": Heading("bytes of anchor", hint="the same indices at a fixed length"),
    "bad": Heading("worst tenth", 4),
    "bpp": Heading(decimals=4, hint="the whole file over the original's pixels"),
    "bpp_range": Heading("bpp"),
    "bytes": Heading(decimals=0),
    "decode_macs_per_pixel": Heading("decode MAC/px", 0),
    "decode_ms": Heading("decode ms", 1),
    "decode_ratio": Heading("decode x", 2, "over the time of the first line"),
    "decode_speed": Heading("decode MP/s", 2),
    "encode_macs_per_pixel": Heading("encode MAC/px", 0),
    "encode_ms": Heading("encode ms", 1),
    "encode_ratio": Heading("encode x", 2, "over the time of the first line"),
    "encode_speed": Heading("encode MP/s", 2),
    "fingerprint": Heading(hint="of adapter, version, options, weights and libraries"),
    "good": Heading("best tenth", 4),
    "images": Heading(decimals=0),
    "mean": Heading(decimals=4),
    "mean_saved_percent": Heading("mean of images %", 2, "what an image drawn at random can expect"),
    "memory_mb": Heading("peak MB", 0),
    "parameters": Heading(decimals=0),
    "patches": Heading(decimals=0),
    "point": Heading(hint="the operating point, in the codec's own unit"),
    "point_name": Heading(""),
    "same_pixels": Heading("same pixels", hint="whether both restored the same pixels: only then is it exact"),
    "saved_percent": Heading("saved %", 2, "of all bytes: large images count for more"),
    "worst": Heading(decimals=4),
    "worst_image": Heading("worst image"),
}


def headings(infos: Mapping[str, MetricInfo]) -> dict[str, Heading]:
    """:data:`COLUMNS`, and those of the metrics, with an arrow towards better."""
    return {**COLUMNS, **{name: metric_heading(name, info) for name, info in infos.items()}}


def metric_heading(name: str, info: MetricInfo) -> Heading:
    """Of a metric's values."""
    better = "higher" if info.higher_is_better else "lower"
    return Heading(f"{name} {ARROWS[info.higher_is_better]}", decimals_of(info), f"{info.title}: {better} is better")


def decimals_of(info: MetricInfo) -> int:
    """Digits after the point that are worth showing; a metric in dB has two."""
    return 2 if info.unit == "dB" else 4
