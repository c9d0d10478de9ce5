"""What the tests of the store share: an ordinary row, and the files that a store holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hvqbench.bench.rows import Row
from hvqbench.bench.store import Store


def ordinary_row(number: int = 0, **changes: Any) -> Row:
    """A row of a finished image; *number* is its place in time."""
    return {
        "dataset": "kodak",
        "codec": "jpeg",
        "point": 5.0,
        "point_name": "quality",
        "image": "kodim01",
        "status": "ok",
        "reason": "",
        "bytes": 100,
        "bpp": 0.25,
        "psnr": 30.0,
        "key": "k",
        "codec_fingerprint": "v1",
        "metrics": "{}",
        "started": f"2026-01-01T00:00:{number:02}",
        **changes,
    }


def parquet_files(store: Store) -> list[Path]:
    return sorted(store.root.rglob("*.parquet"))
