"""Rows: what makes two of them the same, which of them count now, and those about whole sets of images.

A row is a dict: one image through one codec at one point; or, without an image, a whole set of them, with the metrics
of whole sets (FID); or, without a point, a codec or an image that could not be used at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
Identity = tuple[str, str, str, str]
SET = "set"
"""The status of a row about a whole set of images."""

PLACE = ("dataset", "codec", "point", "image")


def identity(row: Row) -> Identity:
    """What makes two rows the same row: where it belongs, and the key of all that can change its numbers."""
    return row["dataset"], row["codec"], row["image"], row["key"]


def newest(rows: Iterable[Row]) -> list[Row]:
    """One row for each identity, the newest, in order of time."""
    last = {identity(row): row for row in sorted(rows, key=time_of)}
    return sorted(last.values(), key=time_of)


def current(rows: list[Row]) -> list[Row]:
    """Of *rows* (one for each identity, oldest first) those that count now; see :func:`read_results`."""
    version: dict[tuple[str, ...], str] = {}
    measured: dict[tuple[str, ...], str] = {}
    for row in filter(has_point, rows):
        place = (row["dataset"], row["codec"])
        version[place] = row["codec_fingerprint"]
        measured[place] = measured[*place, row["image"]] = row["started"]

    def counts(row: Row) -> bool:
        place = (row["dataset"], row["codec"])
        if has_point(row):
            return row["codec_fingerprint"] == version[place]
        return row["started"] > measured.get((*place, row["image"]) if row["image"] else place, "")

    chosen = {tuple(row[name] for name in PLACE): row for row in rows if not of_set(row) and counts(row)}
    return one_version([*chosen.values(), *_current_sets(rows, chosen.values())])


def _current_sets(rows: list[Row], images: Iterable[Row]) -> list[Row]:
    """The set rows that are about exactly these *images*: neither more, nor fewer, nor older reconstructions."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in images:
        if row["status"] == "ok":
            groups.setdefault((row["dataset"], row["codec"], row["point"]), []).append(row)
    keys = {place: set_key(group) for place, group in groups.items()}
    found = {
        place: row
        for row in rows
        if of_set(row) and row["key"] == keys.get(place := (row["dataset"], row["codec"], row["point"]))
    }
    return list(found.values())


def of_set(row: Row) -> bool:
    """Whether *row* is about a whole set, measured or failed."""
    return has_point(row) and not row["image"]


def set_key(images: Iterable[Row]) -> str:
    """The key of the set row of these rows: what made each image, and what it was restored to."""
    members = sorted((row["image"], row["key"], row.get("reconstruction_sha256")) for row in images)
    return hashlib.sha256(json.dumps(members).encode()).hexdigest()


def one_version(rows: list[Row]) -> list[Row]:
    """*rows* without the values of a metric in any but its newest version, for each data set and codec.

    So no mean and no curve joins two versions. The values stay in the store.
    """
    newest_version: dict[tuple[str, str, str], str] = {}
    for row in sorted(rows, key=time_of):
        for name, version in versions_in(row).items():
            newest_version[row["dataset"], row["codec"], name] = version
    result = []
    for row in rows:
        versions = versions_in(row)
        kept = {n: v for n, v in versions.items() if v == newest_version[row["dataset"], row["codec"], n]}
        if kept != versions:
            old = versions.keys() - kept.keys()
            row = {name: value for name, value in row.items() if name not in old} | {"metrics": json.dumps(kept)}
        result.append(row)
    return result


def versions_in(row: Row) -> dict[str, str]:
    """The metrics that *row* has, each with its version."""
    versions: dict[str, str] = json.loads(row.get("metrics") or "{}")
    return versions


def time_of(row: Row) -> str:
    """When it was measured, as text that sorts."""
    return row["started"]


def has_point(row: Row) -> bool:
    """Whether it is about an operating point."""
    return row["point"] is not None
