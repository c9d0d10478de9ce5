"""The columns of tables: what they are called, and to how many decimals they are rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from hvqbench.report.table import ARROWS

if TYPE_CHECKING:
    from hvqbench.report.scope import Scope

TITLES: Mapping[str, str] = {
    "saved_percent": "saved %",
    "mean_saved_percent": "mean of images %",
    "same_pixels": "same pixels",
    "anchor_bytes": "bytes of anchor",
    "bd_rate_percent": "BD-rate %",
    "anchor_points": "points of anchor",
    "codec_points": "points",
    "point_name": "",
    "bpp_range": "bpp",
    "encode_ms": "encode ms",
    "decode_ms": "decode ms",
    "encode_speed": "encode MP/s",
    "decode_speed": "decode MP/s",
    "encode_ratio": "encode x",
    "decode_ratio": "decode x",
    "memory_mb": "peak MB",
    "encode_macs_per_pixel": "encode MAC/px",
    "decode_macs_per_pixel": "decode MAC/px",
}
DECIMALS: Mapping[str, int] = {
    "bpp": 4,
    "bytes": 0,
    "saved_percent": 2,
    "mean_saved_percent": 2,
    "overlap": 2,
    "bd_rate_percent": 2,
    "images": 0,
    "patches": 0,
    "encode_ms": 1,
    "decode_ms": 1,
    "encode_speed": 2,
    "decode_speed": 2,
    "encode_ratio": 2,
    "decode_ratio": 2,
    "memory_mb": 0,
    "parameters": 0,
    "encode_macs_per_pixel": 0,
    "decode_macs_per_pixel": 0,
}


def titles_of(scope: Scope) -> dict[str, str]:
    """Headings of columns, with an arrow at each metric towards better."""
    return {**TITLES, **{name: f"{name} {ARROWS[info.higher_is_better]}" for name, info in scope.infos.items()}}


def decimals_of(scope: Scope) -> dict[str, int]:
    """Decimals of columns; a metric in dB has two."""
    return {**DECIMALS, **{name: 2 if info.unit == "dB" else 4 for name, info in scope.infos.items()}}
