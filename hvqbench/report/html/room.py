"""The picture room of a data set: which images and decodes it has, each made from its kept bitstream.

Codecs that restore the same pixels share one picture.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hvqbench.downloads import keep
from hvqbench.errors import HvqbenchError, say
from hvqbench.report.html.opening import Opening, median_case
from hvqbench.report.html.page_pictures import PagePictures, Wanted
from hvqbench.report.html.pictures import SIDE, Blobs, Original, cached, picture
from hvqbench.report.names import Names

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.data import ImageFile
    from hvqbench.report.html.finding import Finding
    from hvqbench.report.html.page_pictures import Mapper

POINTS = 3
"""Operating points of a codec in the room, at most: those that most of the others come near to in rate."""


@dataclass
class Room:
    """The pictures of one data set, as the page's script takes them.

    ``src`` and the values of ``maps``, by :data:`~hvqbench.report.html.page_pictures.ERROR` or a metric's id, are
    keys of :class:`Blobs`.
    """

    images: list[dict[str, Any]] = field(default_factory=list)
    decodes: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    opening: dict[str, Any] | None = None
    """An :class:`~hvqbench.report.html.opening.Opening`; None where there is nothing to choose by."""

    def note(self, text: str) -> None:
        """Say something to the reader, once."""
        if text not in self.notes:
            self.notes.append(text)


def make_room(
    results: pd.DataFrame,
    dataset: str,
    metrics: Sequence[str],
    streams: Path | None,
    blobs: Blobs,
    finding: Finding | None = None,
    maps: Mapping[str, Mapper] | None = None,
    names: Names | None = None,
) -> Room:
    """The room of *dataset*: as many of its images as fit into what *blobs* still takes, each with all its decodes.

    Parameters
    ----------
    results
        Rows as :func:`hvqbench.read_results` returns them.
    finding
        Whose median case the room opens on: that image is put in first.
    streams
        The folder of the results, or its ``_streams``; None for no pictures.
    maps
        Of metrics, as :func:`hvqbench.metrics.maps.load_maps` returns them; they see the part that is shown.
    names
        What codecs and metrics are called.
    """
    from hvqbench.bench.store import Store

    room = Room()
    ok = results[(results["status"] == "ok") & (results["dataset"] == dataset)]
    if ok.empty:
        return room
    if streams is None:
        room.notes.append("The report was made without the folder of the bitstreams, so there are no pictures.")
        return room
    files = _originals(dataset, room)
    images = [name for name in spread(sorted(ok["image"].unique())) if name in files]
    if not images:
        return room
    names = names or Names()
    pictures_of_page = PagePictures(
        Store(streams.parent if streams.name == "_streams" else streams), room.note, maps or {}, names
    )
    wanted = _wanted(ok)
    opening = None
    if finding is not None:
        there = [item for item in wanted if item.image in images]
        opening = median_case(there, finding, names)
    if opening is not None:
        images.remove(opening.image)
        images.insert(0, opening.image)
    full = False
    for name in images:
        of_image = [item for item in wanted if item.image == name]
        full = not _add_image(room, blobs, pictures_of_page, files[name], of_image, metrics)
        if full:
            break
        sizes = f"{blobs.size / 1e6:.1f} of {blobs.budget / 1e6:.1f} MB"
        say(f"pictures of {dataset} {name}: {len(of_image)} decodes, {sizes}")
    room.images.sort(key=lambda image: str(image["name"]))
    if opening is not None and _can_show(room, opening):
        room.opening = asdict(opening)
    _say_what_is_left_out(room, ok, full)
    return room


def _can_show(room: Room, opening: Opening) -> bool:
    """Whether both decodes of the opening were made."""
    shown = {(decode["codec"], decode["point"]) for decode in room.decodes if decode["image"] == opening.image}
    return (opening.codec, opening.point) in shown and opening.rival in {codec for codec, _ in shown}


def spread(names: Sequence[str]) -> list[str]:
    """*names* in an order whose every beginning is spread over the whole: by the bits of their numbers, reversed.

    >>> spread(["a", "b", "c", "d", "e"])
    ['a', 'e', 'c', 'b', 'd']
    """
    bits = max(len(names) - 1, 1).bit_length()
    return [names[i] for i in sorted(range(len(names)), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))]


def near_points(rates: Mapping[str, Mapping[float, float]]) -> dict[str, list[float]]:
    """Up to :data:`POINTS` operating points of each codec: those that most of the others come near to in rate.

    Parameters
    ----------
    rates
        For each codec, its points and their mean rates in bpp.

    >>> near_points({"a": {1: 0.1, 2: 0.2, 3: 1, 4: 4, 5: 9}, "b": {1: 0.15}})["a"]
    [1, 2, 3]
    """
    chosen = {}
    for codec, own in rates.items():
        others = [list(theirs.values()) for name, theirs in rates.items() if name != codec]
        distance = {
            point: sum(min(abs(math.log(bpp / other)) for other in theirs) for theirs in others)
            for point, bpp in own.items()
        }
        chosen[codec] = sorted(sorted(own, key=lambda point: (distance[point], point))[:POINTS])
    return chosen


def _wanted(ok: pd.DataFrame) -> list[Wanted]:
    means = ok.groupby(["codec", "point"])["bpp"].mean()
    rates: dict[str, dict[float, float]] = {}
    for (codec, point), bpp in zip(means.index, means, strict=True):
        rates.setdefault(codec, {})[point] = bpp
    points = near_points(rates)
    records: list[Any] = ok.to_dict("records")
    rows = [row for row in records if row["point"] in points[row["codec"]]]
    return [Wanted(row["image"], row["codec"], row["point"], row) for row in rows]


def _originals(dataset: str, room: Room) -> dict[str, ImageFile]:
    from hvqbench.data import load_dataset

    try:
        return {file.name: file for file in load_dataset(dataset).images}
    except HvqbenchError as error:
        room.notes.append(f"No pictures: the originals are not here. {error}")
        return {}


def _add_image(
    room: Room,
    blobs: Blobs,
    pictures_of_page: PagePictures,
    file: ImageFile,
    wanted: Sequence[Wanted],
    metrics: Sequence[str],
) -> bool:
    """Put one image with its decodes into the room; False, and nothing is put, if *blobs* cannot take them all."""
    original = Original(file)
    try:
        height, width = original.pixels.shape[:2]
    except HvqbenchError as problem:
        room.notes.append(str(problem))
        return True
    path = cached(f"{original.sha}-original")
    if path.is_file():
        files = {original.sha: path.read_bytes()}
    else:
        files = {original.sha: picture(original.cut(original.pixels))}
        keep(path, files[original.sha])
    decodes: list[tuple[Wanted, str, dict[str, str]]] = []
    for item in wanted:
        if item.row.get("image_sha256") not in (None, original.sha):
            continue  # measured on other pixels
        made = pictures_of_page.files(item, original)
        if made is not None:
            src, *shas = (hashlib.sha256(data).hexdigest() for data in (made[0], *made[1].values()))
            files |= {src: made[0], **dict(zip(shas, made[1].values(), strict=True))}
            decodes.append((item, src, dict(zip(made[1], shas, strict=True))))
    if not decodes:
        return True
    keys = blobs.add(files)
    if keys is None:
        return False
    shown = original.cut(original.pixels).shape
    room.images.append(
        {"name": file.name, "width": shown[1], "height": shown[0], "full": [width, height], "src": keys[original.sha]}
    )
    for item, src, maps in decodes:
        values = {name: _number(item.row.get(name)) for name in metrics}
        room.decodes.append(
            {
                "image": item.image,
                "codec": item.codec,
                "point": item.point,
                "bpp": _number(item.row["bpp"]),
                "bytes": int(item.row["bytes"]),
                "metrics": {name: value for name, value in values.items() if value is not None},
                "src": keys[src],
                "maps": {name: keys[sha] for name, sha in maps.items()},
            }
        )
    return True


def _say_what_is_left_out(room: Room, ok: pd.DataFrame, full: bool) -> None:
    """Images for the file's size, *full* where that was the reason; points, since a codec has few of them here."""
    points = {(row["codec"], row["point"]) for row in room.decodes}
    all_points = ok[["codec", "point"]].drop_duplicates()
    images = ok["image"].nunique()
    said = []
    if len(room.images) < images:
        why = ", spread over the data set; the others are left out for the file's size" if full else ""
        said.append(f"{len(room.images)} of {images} images{why}")
    if len(points) < len(all_points):
        why = ""
        if (all_points["codec"].value_counts() > POINTS).any():
            why = f", at most {POINTS} of a codec: those that most other codecs come near to in rate"
        said.append(f"{len(points)} of {len(all_points)} operating points{why}")
    if room.images and said:
        room.notes.insert(0, f"In this file: {'; and '.join(said)}.")
    if any(image["full"] != [image["width"], image["height"]] for image in room.images):
        room.notes.append(
            f"Of larger images the middle is shown, up to {SIDE} pixels a side; metrics are of all of it."
        )


def _number(value: Any) -> float | None:
    """A finite number to six digits, or None."""
    if value is None or not np.isfinite(float(value)):
        return None
    return float(f"{float(value):.6g}")
