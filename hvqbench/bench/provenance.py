"""Where a row comes from: what its key is made of, whether that is still so, and the command that makes it again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from hvqbench.advice import codec_source, command, dataset_source, repr_point
from hvqbench.bench.current import current
from hvqbench.bench.plan import Entry, find_codec, metric_versions
from hvqbench.bench.rows import Row, has_point, identity, of_set, versions_in
from hvqbench.bench.store import Store
from hvqbench.bench.task import task_key
from hvqbench.errors import HvqbenchError
from hvqbench.protocol import NOT_DECODED

SHORTEST_KEY = 6


@dataclass(frozen=True)
class Provenance:
    """What :func:`why` found out about *row*."""

    row: Row
    counts: bool
    """Whether it is in curves and means now."""
    parts: dict[str, str]
    """What the key is made of, in words."""
    consistent: bool
    """Whether the key is the sha256 of these parts."""
    changed: tuple[str, ...]
    """What is not here as it was then, so that the command would make another row."""
    ingredients: dict[str, str]
    """What the codec's fingerprint is made of, of the codec as it is here now."""
    command: str
    """It measures this point again, on all images of the data set."""

    @property
    def text(self) -> str:
        row = self.row
        place = f"{row['dataset']} {row['image'] or 'as a whole'}"
        state = "counts now" if self.counts else "does not count: newer rows took its place, or the codec has changed"
        made = [name for name in ("started", "host", "version", "libraries", "command") if name in row]
        lines = [
            f"{row['codec']} at {row['point_name']} {row['point']:g}, {place}: {row['status']}, {state}",
            *([f"reason      {row['reason']}"] if row["reason"] else []),
            f"key         {row['key']}",
            *(f"  {name:<12}{value}" for name, value in self.parts.items()),
            *([] if self.consistent else ["  these do not make that key: the row was altered"]),
            "codec here, now",
            *(f"  {name:<12} {value}" for name, value in self.ingredients.items()),
            "metrics",
            *(f"  {version}" for version in versions_in(row).values()),
            "made",
            *(f"  {name:<12}{row[name]}" for name in made),
            *(["has changed since", *(f"  {line}" for line in self.changed)] if self.changed else []),
            "makes it again" if not self.changed else "measures anew, as another row",
            f"  {self.command}",
        ]
        return "\n".join(lines)


def why(name: str, results: str | Path = "results") -> Provenance:
    """Explain the row *name*: the beginning of its key, or ``codec/point/image`` (the one that counts, if one does).

    Raises
    ------
    HvqbenchError
        No such row, several of that beginning, or no results.
    """
    store = Store(results)
    rows = [row for row in store.rows() if has_point(row)]
    if not rows:
        raise HvqbenchError(f"no results in {str(results)!r}: run `hvqbench run` first, or name its folder (--results)")
    counting = {identity(row) for row in current(rows)}
    row = _find(rows, name, counting)
    # Of all rows: one that was scored later remembers that command, and not the one that named the paths.
    commands = [str(other.get("command") or "") for other in (*rows, row)]
    codec = codec_source(row["codec"], commands)
    entry = _codec(codec)
    device = str(row["device"]).partition(":")[0]
    if of_set(row):
        parts = {"images": "the keys and the pixels of all images of this point, as restored"}
        consistent = True
    else:
        parts = {
            "image": f"{row['image_sha256']} (pixels)",
            "codec": f"{row['codec_fingerprint']} (adapter, version, options, weights, libraries)",
            "point": f"{row['point']:g}",
            "device": device,
        }
        consistent = row["key"] == task_key(row["image_sha256"], row["codec_fingerprint"], row["point"], device)
    return Provenance(
        row=row,
        counts=identity(row) in counting,
        parts=parts,
        consistent=consistent,
        changed=tuple(_changes(row, entry)),
        ingredients=_ingredients(entry),
        command=_command(row, codec, dataset_source(row["dataset"], commands), results),
    )


def _find(rows: list[Row], name: str, counting: set[tuple[str, str, str, str]]) -> Row:
    """The row of that name; of several at one place the one that counts, or else the newest."""
    if name.count("/") >= 2:
        codec, point, image = name.split("/", 2)
        found = [row for row in rows if (row["codec"], row["image"]) == (codec, image) and f"{row['point']:g}" == point]
        found = [row for row in found if identity(row) in counting] or found[-1:]
    else:
        found = [row for row in rows if len(name) >= SHORTEST_KEY and row["key"].startswith(name)]
    if not found:
        raise HvqbenchError(
            f"no row {name!r}: give {SHORTEST_KEY} or more digits of a key, or CODEC/POINT/IMAGE like {_example(rows)}"
        )
    places = {(row["dataset"], row["codec"], row["image"]): row["key"] for row in found}
    if len(places) > 1:
        several = "; ".join(f"{' '.join(place)} ({key[:12]})" for place, key in sorted(places.items())[:3])
        raise HvqbenchError(f"{len(places)} rows are {name!r}: {several}; give more of a key, or CODEC/POINT/IMAGE")
    return found[-1]


def _example(rows: list[Row]) -> str:
    return f"{rows[-1]['codec']}/{rows[-1]['point']:g}/{rows[-1]['image']}"


def _codec(name: str) -> Entry | None:
    try:
        return find_codec(name)
    except HvqbenchError:
        return None


def _ingredients(entry: Entry | None) -> dict[str, str]:
    if entry is None or entry.codec is None or entry.broken:
        return {"none": entry.broken if entry else "there is no codec of that name; it may have been a path"}
    found = entry.codec.ingredients
    told = {"fingerprint": entry.fingerprint, "adapter": found["adapter"], "version": found["version"]}
    told |= {name: json.dumps(found[name], default=str) for name in ("options", "libraries") if found[name]}
    files = zip(entry.codec.files(), found["files"], strict=True)
    return told | {path.name: f"{digest[:16]}…" for path, digest in files}


def _changes(row: Row, entry: Entry | None) -> list[str]:
    changes = []
    if entry is None or entry.broken:
        changes.append("the codec is not here")
    elif entry.fingerprint != row["codec_fingerprint"]:
        changes.append("the codec: its fingerprint is another one")
    for name, version in versions_in(row).items():
        try:
            now = metric_versions([name])[name]
        except Exception:  # a plug-in or a library that is gone, of any kind
            changes.append(f"the metric {name} is not here")
            continue
        if now != version:
            changes.append(f"the metric {name}: {version} then, {now} now")
    return changes


def _command(row: Row, codec: str, dataset: str, results: str | Path) -> str:
    if NOT_DECODED in (row.get("protocol") or "").split():
        return str(row["command"])
    words = ["run", "--codec", codec, "--dataset", dataset, "--points", repr_point(row["point"])]
    if metrics := ",".join(versions_in(row)):
        words += ["--metric", metrics]
    if row["device"] != "cpu":
        words += ["--device", row["device"]]
    return command(*words, "--rerun", "all", results=results)
