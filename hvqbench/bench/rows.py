"""Rows: what makes two of them the same, and those about whole sets of images.

A row is a dict: one image through one codec at one point; or, without an image, a whole set of them, with the metrics
of whole sets (FID); or, without a point, a codec or an image that could not be used at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

Row = dict[str, Any]
Identity = tuple[str, str, str, str]
SET = "set"
"""The status of a row about a whole set of images."""


def identity(row: Row) -> Identity:
    """What makes two rows the same row: where it belongs, and the key of all that can change its numbers."""
    return row["dataset"], row["codec"], row["image"], row["key"]


def newest(rows: Iterable[Row]) -> list[Row]:
    """One row for each identity, the newest, in order of time."""
    last = {identity(row): row for row in sorted(rows, key=time_of)}
    return sorted(last.values(), key=time_of)


def of_set(row: Row) -> bool:
    """Whether *row* is about a whole set, measured or failed."""
    return has_point(row) and not row["image"]


def set_key(images: Iterable[Row]) -> str:
    """The key of the set row of these rows: what made each image, and what it was restored to."""
    members = sorted((row["image"], row["key"], row.get("reconstruction_sha256")) for row in images)
    return hashlib.sha256(json.dumps(members).encode()).hexdigest()


def versions_in(row: Row) -> dict[str, str]:
    """The metrics that *row* has, each with its version."""
    versions: dict[str, str] = json.loads(row.get("metrics") or "{}")
    return versions


def time_of(row: Row) -> str:
    """When it was measured, as text that sorts."""
    return row["started"]


def after(moment: str, newest: str) -> str:
    """*moment*, or where that is not later than *newest* the moment after it; both as :func:`time_of` has them.

    So what was measured later has the later time, also when a clock ran fast, was set back, or is another machine's
    (a hybrid logical clock: Kulkarni et al., OPODIS 2014).
    """
    if moment > newest:
        return moment
    with suppress(ValueError, OverflowError):
        parsed = datetime.fromisoformat(newest)
        step = parsed.replace(tzinfo=parsed.tzinfo or UTC) + timedelta(microseconds=1)
        if (text := step.isoformat(timespec="microseconds")) > newest:
            return text
    return f"{newest}0"  # no time as hvqbench writes it, but it sorts


def has_point(row: Row) -> bool:
    """Whether it is about an operating point."""
    return row["point"] is not None
