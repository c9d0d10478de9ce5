"""The table of bytes that stands for a codec whose pictures others decoded.

::

    image,point,bytes
    kodim01,0,3150
    kodim01,1,5150

Columns ``image`` and ``bytes`` (of the whole file), and, as needed, ``point`` and ``file`` (of the picture). Without
``file``, pictures are ``POINT/IMAGE.png``, or ``IMAGE.png`` where the table has one point.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.csv_rows import csv_rows, read_text
from hvqbench.errors import HvqbenchError, closest

if TYPE_CHECKING:
    from hvqbench.data import Dataset

REQUIRED, OPTIONAL = ("image", "bytes"), ("point", "file")
LOSSLESS = (".png", ".ppm", ".pnm", ".bmp", ".tif", ".tiff")
"""Files that hold what the decoder returned. A JPEG would be a second codec after it."""


@dataclass(frozen=True)
class StatedSize:
    """One line of the table: a picture of an image at an operating point, and the bytes that are said to give it."""

    image: str
    point: float
    bytes: int
    path: Path


def read_sizes(path: Path, folder: Path, data: Dataset) -> list[StatedSize]:
    """The lines of the table *path*, each with the file of its picture in *folder*.

    Raises
    ------
    HvqbenchError
        A column or a cell that is missing or wrong, an image that *data* does not have, a picture that is not there.
    """
    text = read_text(path)
    if not folder.is_dir():
        raise HvqbenchError(f"there is no folder {folder}: name that of the decoded pictures with --reconstructions")
    header, rows = csv_rows(text, str(path))
    for column in REQUIRED:
        if column not in header:
            hint = ": bytes are those of the whole file, bpp * width * height / 8" if column == "bytes" else ""
            raise HvqbenchError(f"{path}: row 1: no column {column!r}{hint}; docs/results.md shows a table")
    for column in header:
        if column not in REQUIRED + OPTIONAL:
            hint = closest(column, OPTIONAL)
            raise HvqbenchError(f"{path}: row 1: unknown column {column!r}: {hint}leave it out")
    names = {file.name: file.name for file in data.images}
    names |= {file.path.name: file.name for file in data.images if file.path.name not in names}
    one_point = len({row.cells.get("point") for row in rows}) == 1
    lines: list[StatedSize] = []
    seen: dict[tuple[str, float], str] = {}
    for row in rows:
        where = row.where
        if row["image"] not in names:
            raise HvqbenchError(f"{where}: {data.id} has no image {row['image']!r}: {closest(row['image'], names)}"
                                f"it has {len(data)}, like {data.images[0].name!r}")  # fmt: skip
        image, point = names[row["image"]], row.number("point") if "point" in header else 0.0
        if (image, point) in seen:
            raise HvqbenchError(f"{where}: {image} at {point:g} is in {seen[image, point]} as well; keep one of them")
        seen[image, point] = f"row {row.line}"
        if not row["bytes"].isdecimal() or int(row["bytes"]) == 0:
            raise HvqbenchError(f"{where}: bytes {row['bytes']!r} is not a whole number above 0: give the file's size")
        picture = _find(folder, row.cells.get("file", ""), row.cells.get("point", ""), image, one_point, where)
        lines.append(StatedSize(image, point, int(row["bytes"]), picture))
    if not lines:
        raise HvqbenchError(f"{path} holds no picture: add rows below the header")
    return lines


def missing_pictures(lines: Sequence[StatedSize], name: str, data: Dataset) -> list[str]:
    """The points that have fewer images than the data set, in words: their means are not the data set's."""
    counts: dict[float, int] = {}
    for stated in lines:
        counts[stated.point] = counts.get(stated.point, 0) + 1
    return [
        f"{name} at {point:g}: the table has {count} of the {len(data)} images of {data.id}, "
        "and its means are of those alone; `hvqbench bd` pairs codecs by image, over the images that both have"
        for point, count in sorted(counts.items())
        if count < len(data)
    ]


def _find(folder: Path, file: str, point: str, image: str, one_point: bool, where: str) -> Path:
    """The picture of *image* at *point*: the *file* that is named, or the one that is called so."""
    if file:
        path = folder / file
        if not Path(os.path.normpath(path)).is_relative_to(os.path.normpath(folder)):
            raise HvqbenchError(f"{where}: {file} is not below {folder}: name a file in it")
        if not path.is_file():
            raise HvqbenchError(f"{where}: there is no {path}: correct the column file")
        if path.suffix.lower() not in LOSSLESS:
            raise HvqbenchError(f"{where}: {path} may be lossy: save what the decoder returned as PNG")
        return path
    places = [folder / point] if point and (folder / point).is_dir() else []
    places += [folder] if one_point else []
    for place in places:
        for suffix in LOSSLESS:
            if (path := place / f"{image}{suffix}").is_file():
                return path
    wanted = folder / point / f"{image}.png" if point else folder / f"{image}.png"
    raise HvqbenchError(f"{where}: there is no {wanted}: put it there, or name it in a column file")
