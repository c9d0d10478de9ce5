"""Which rows are wanted, and which of them are still to be measured."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from hvqbench.bench.rows import Identity, Row
from hvqbench.bench.task import Task, now
from hvqbench.codec import Codec, CodecSpec, image_digest
from hvqbench.errors import HvqbenchError, say
from hvqbench.files import atomic_write
from hvqbench.image import READER, not_applied

if TYPE_CHECKING:
    from hvqbench.data import Dataset, ImageFile

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)
Rerun = Literal["missing", "failed", "all", "never"]
Codecs = str | Codec | type[Codec] | Iterable[str | Codec | type[Codec]]
"""What a sweep runs: names, classes, objects."""
RERUN: tuple[Rerun, ...] = ("missing", "failed", "all", "never")


@dataclass(frozen=True)
class Entry:
    """A codec in a plan."""

    source: str
    """What :func:`hvqbench.catalog.load_codec` takes."""
    spec: CodecSpec
    codec: Codec | None
    fingerprint: str
    broken: str = ""
    """Why there is no codec or no fingerprint."""
    points: tuple[float, ...] = ()
    """Its own operating points; none for the plan's."""

    def unavailable(self) -> str | None:
        """Why the codec cannot run here; None if it can."""
        if self.codec is None or self.broken:
            return self.broken
        try:
            return self.codec.unavailable()
        except Exception as error:  # an adapter's own, of any kind
            return f"unavailable() raised {type(error).__name__}: {error}; correct the adapter"


@dataclass(frozen=True)
class Picture:
    """An image in a plan: what is known of its pixels, or why they cannot be read."""

    file: ImageFile
    sha256: str = ""
    width: int = 0
    height: int = 0
    unreadable: str = ""


def find_codec(source: str) -> Entry:
    """Look up a codec. An unknown one raises; one whose adapter or weights are broken is an entry that says so."""
    from hvqbench.catalog import codec_of, load_spec

    spec = load_spec(source)
    codec = None
    try:
        codec = codec_of(spec)
        return Entry(source, spec, codec, codec.fingerprint)
    except HvqbenchError as error:
        reason = str(error)
    except Exception as error:  # an adapter's own, of any kind
        reason = f"{type(error).__name__}: {error}; correct or reinstall the adapter or its files"
    # A codec that is merely unavailable may be unable to hash weights that are not there, and knows better what to do.
    entry = Entry(source, spec, codec, "")
    return replace(entry, broken=(codec and entry.unavailable()) or reason)


def find_entries(codecs: Codecs, points: Sequence[float] | None = None) -> list[Entry]:
    """The codecs that :func:`hvqbench.selection.choose_codecs` finds, and those that are given as classes or objects.

    Points of their own (``hypervq@0,1.6``) go before *points*, and these before a codec's ladder.

    Raises
    ------
    HvqbenchError
        An unknown codec, or a point outside the range that its codec declares.
    """
    from hvqbench.catalog import source_of
    from hvqbench.selection import Choice, choose_codecs

    asked = [codecs] if isinstance(codecs, str | Codec | type) else codecs
    chosen = [codec if isinstance(codec, str) else Choice(source_of(codec)) for codec in asked]
    entries = []
    for source, named in choose_codecs(chosen).items():
        entry = find_codec(source)
        if any(named):
            own = [point for chosen in named for point in chosen or points or entry.spec.points]
            entry = replace(entry, points=tuple(dict.fromkeys(own)))
        _check_points(entry, entry.points or points or ())
        entries.append(entry)
    return entries


def _check_points(entry: Entry, points: Sequence[float]) -> None:
    """Refuse what the codec's encoder would, image by image; one that declares no range is asked then."""
    codec = entry.codec
    if codec is None or entry.broken or codec.declared_range is None:
        return
    low, high = codec.declared_range
    beyond = [point for point in points if not low <= point <= high]
    if beyond:
        name = entry.spec.id
        limits = f"{low:g} or more" if math.isinf(high) else f"{low:g} to {high:g}"
        asked = f"{entry.spec.point_name} {', '.join(f'{point:g}' for point in beyond)}"
        usual = (*entry.spec.points, low)[0]
        remedy = "" if entry.points else f", or give this codec points of its own, like {name}@{usual:g}"
        raise HvqbenchError(f"{name}: {asked} is not in its range, {limits}: correct it{remedy}")


def make_plan(
    entries: Iterable[Entry],
    dataset: str,
    pictures: Iterable[Picture],
    metrics: Mapping[str, str],
    points: Sequence[float] | None,
    device: str,
) -> list[Task]:
    """All tasks, image by image, whether done or not."""
    usable = [entry for entry in entries if not entry.broken]
    return [
        Task(
            dataset=dataset,
            codec=entry.spec.id,
            source=entry.source,
            fingerprint=entry.fingerprint,
            point=float(point),  # 64 and 64.0 are one point, and have one key
            point_name=entry.spec.point_name,
            device=device,
            image=picture.file,
            image_sha256=picture.sha256,
            width=picture.width,
            height=picture.height,
            metrics=metrics,
        )
        for picture in pictures
        if not picture.unreadable
        for entry in usable
        for point in entry.points or points or entry.spec.points
    ]


def pending(tasks: Iterable[Task], known: Mapping[Identity, Row], rerun: Rerun) -> list[Task]:
    """The tasks that are to be done.

    ``missing``: those without a finished row; one that lacks only metrics is marked, so that nothing is encoded again.
    ``failed``: these, and the failed ones. ``all``: all. ``never``: none.
    """
    if rerun == "never":
        return []
    if rerun == "all":
        return list(tasks)
    todo = []
    for task in tasks:
        row = known.get(task.identity)
        if row is None or (row["status"] == "failed" and rerun == "failed"):
            todo.append(task)
        elif row["status"] == "ok" and lacking(task, row):
            todo.append(replace(task, earlier=row))
    return todo


def lacking(task: Task, row: Row) -> bool:
    """Whether *row* lacks a metric of *task*, or has it in another version."""
    measured = json.loads(row["metrics"])
    return any(measured.get(name) != version for name, version in task.metrics.items())


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """*items* by their *key*, in order."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def by_image(tasks: Iterable[Task]) -> list[list[Task]]:
    """Groups of tasks that share an image."""
    return list(grouped(tasks, lambda task: task.image).values())


def note(dataset: str, entry: Entry, status: str, reason: str, image: str = "") -> Row:
    """A row without a point: a codec that cannot run, or an image that cannot be read."""
    return {
        "dataset": dataset,
        "codec": entry.spec.id,
        "point": None,
        "point_name": entry.spec.point_name,
        "image": image,
        "codec_fingerprint": entry.fingerprint,
        "key": status,
        "status": status,
        "reason": reason,
        "started": now(),
    }


def notes_of(
    dataset: str, entries: Sequence[Entry], reasons: Mapping[str, str], pictures: Iterable[Picture]
) -> list[Row]:
    """Rows without a point: codecs that cannot run, for the *reasons* given by id, and images that cannot be read."""
    notes = [note(dataset, e, "unavailable", reasons[e.spec.id]) for e in entries if e.spec.id in reasons]
    bad = [picture for picture in pictures if picture.unreadable]
    return notes + [note(dataset, e, "failed", p.unreadable, p.file.name) for p in bad for e in entries if not e.broken]


def metric_versions(names: Sequence[str]) -> dict[str, str]:
    """Metric ids to what can change their values: their version, and those of their libraries."""
    from hvqbench.metrics import metric_info

    versions = {}
    for name in names:
        info = metric_info(name)
        libraries = [f"{library}=={metadata.version(library)}" for library in info.libraries]
        versions[name] = " ".join([f"{name}/{info.version}", *libraries])
    return versions


def look_at(dataset: Dataset, limit: int | None, cache: Path) -> list[Picture]:
    """Hash the pixels of a data set's images, and say what their files say of colours that is not applied.

    Hashes are kept in the file *cache* with what tells each image file from any other in its place, so that a finished
    sweep is recognised without reading pixels. The pictures carry them: whoever reads one later gets these pixels or an
    error. One image is in memory at a time.
    """
    stamp = " ".join([READER, *(f"{name}=={metadata.version(name)}" for name in ("pillow", "imagecodecs"))])
    known = _read_cache(cache, stamp)
    fresh = dict(known)
    pictures = []
    told: dict[str, list[str]] = {}
    for file in dataset.images[:limit]:
        try:
            place = str(file.path.resolve())
            state = _state(file.path)
            entry = known.get(place)
            if entry is None or entry[: len(state)] != state:
                fresh.pop(place, None)
                image = file.read()
                notes = list(not_applied(file.path))
                entry = [*state, image_digest(image), image.shape[1], image.shape[0], notes]
                if not _may_still_change(state) and _state(file.path) == state:
                    fresh[place] = entry
            sha256, width, height, notes = entry[len(state) :]
            pictures.append(Picture(replace(file, sha256=sha256), sha256, width, height))
            for note in notes:
                told.setdefault(note, []).append(file.name)
        except HvqbenchError as error:
            pictures.append(Picture(file, unreadable=str(error)))
        except OSError as error:
            reason = f"cannot read {file.path}: {error.strerror}; check the file and its permissions"
            pictures.append(Picture(file, unreadable=reason))
    for note, names in told.items():
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        say(f"not applied, the pixels are taken for sRGB: {note} of {len(names)} images ({shown})")
    if fresh != known:
        with contextlib.suppress(OSError):  # only a cache
            content = {"version": stamp, "images": fresh}
            atomic_write(cache, json.dumps(content | {"sha256": _sha256(content)}).encode())
    return pictures


def _state(path: Path) -> list[int]:
    """What differs when a file is replaced or written to, whatever is done to its time of change afterwards."""
    stat = path.stat()
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _may_still_change(state: list[int]) -> bool:
    """Whether the file changed so lately that one more change could leave its times as they are."""
    return time.time_ns() - state[-1] < 2 * 10**9


def _read_cache(path: Path, stamp: str) -> dict[str, list]:
    try:
        content = json.loads(path.read_bytes())
        whole = content.pop("sha256") == _sha256(content)
        return content["images"] if whole and content["version"] == stamp else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _sha256(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def check_device(device: str) -> None:
    """Raise if *device* is no device of torch's, or is not here."""
    if device == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise HvqbenchError(f"cannot use device {device!r}: {reason}; use --device cpu") from None


def library_versions(codec: Codec | None) -> str:
    """Versions of the libraries behind a row, as JSON."""
    names = dict.fromkeys(["numpy", "pillow", "torch", *(codec.libraries if codec else ())])
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return json.dumps(found)
