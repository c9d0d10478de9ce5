"""Metrics of whole sets (FID, KID): one value for a codec at one point, over all images of the data set.

::

    rows of all images ──> kept bitstreams ──> decoder ──> describer ──> features ──┐
                                  originals ──> describer ──> features (cached) ────┴─> distance ──> one row

A pass after the images', over what these left in the store. It works on the rows of all images of the data set or not
at all: a value over fewer would stand beside means over others. Its row carries the mean rate of those images, so
that a curve's points are of one set; it counts for as long as the rows that it was made from do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hvqbench.bench.plan import grouped
from hvqbench.bench.rows import SET, Row, set_key, versions_in
from hvqbench.bench.store import Store
from hvqbench.bench.task import Task, WorkerError, Workers, decode, now
from hvqbench.errors import HvqbenchError, say

if TYPE_CHECKING:
    from hvqbench.codec import Image
    from hvqbench.data import ImageFile
    from hvqbench.metrics import SetMetric

Features = NDArray[np.float32]
Advance = Callable[[str, bool], None]


class SetWorkers(Workers, Protocol):
    """The processes that a set task needs; each call may raise :class:`~hvqbench.bench.task.WorkerError`."""

    def describe(self, metric: str, device: str, image: ImageFile | Image) -> Features: ...


@dataclass(frozen=True)
class SetTask:
    """All images of a data set through one codec at one point."""

    members: tuple[Task, ...]
    """One for each image, in the data set's order, with its finished row in ``earlier``."""
    metrics: Mapping[str, str]
    """Those that are still to be computed, with their versions."""
    earlier: Row | None

    @property
    def rows(self) -> list[Row]:
        return [task.earlier for task in self.members if task.earlier is not None]

    @property
    def key(self) -> str:
        return set_key(self.rows)

    @property
    def pixels(self) -> str:
        """Sha256 of all originals and what was restored of them: with it, the values are the same."""
        pairs = [(row["image_sha256"], row["reconstruction_sha256"]) for row in self.rows]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


@dataclass(frozen=True)
class WholeSets:
    """What is asked of a data set: metrics, with their versions, over all of its images."""

    dataset: str
    images: int
    metrics: Mapping[str, str]


def plan_sets(tasks: Iterable[Task], known: Mapping[Any, Row], whole: WholeSets) -> list[SetTask]:
    """What *tasks* make of whole sets, with the rows in *known*; a set that is not whole is said and left out."""
    planned = []
    for (codec, point), group in grouped(tasks, lambda task: (task.codec, task.point)).items():
        rows = [known.get(task.identity) for task in group]
        fine = [row for row in rows if row is not None and row["status"] == "ok"]
        if len(fine) < whole.images:
            lacking = f"{whole.images - len(fine)} of {whole.images} images have no finished row"
            say(f"no {', '.join(whole.metrics)} of {codec} at {point:g}: {lacking}")
            continue
        members = tuple(replace(task, earlier=row) for task, row in zip(group, fine, strict=True))
        earlier = known.get((group[0].dataset, codec, "", set_key(fine)))
        have = versions_in(earlier) if earlier and earlier["status"] == SET else {}
        missing = {name: version for name, version in whole.metrics.items() if have.get(name) != version}
        planned.append(SetTask(members, missing, earlier if have else None))
    return planned


def check_size(metrics: Iterable[str], dataset: str, sizes: Sequence[tuple[int, int]], small_sets: bool) -> None:
    """Raise if images of those *sizes* (width, height) give fewer patches than one of *metrics* needs."""
    from hvqbench.metrics import load_set_metric

    for name in metrics:
        metric = load_set_metric(name)
        patches = sum(metric.patches(*size) for size in sizes)
        if patches < 2:
            needed = f"{name} needs patches of {metric.info.minimum_side} pixels"
            raise HvqbenchError(f"{needed}, and {dataset} has {patches}: take larger images")
        if patches < metric.info.minimum_patches and not small_sets:
            raise HvqbenchError(
                f"{name} over {patches} patches says little, and {dataset} has no more: "
                f"take a set with {metric.info.minimum_patches} or more, or add --small-sets to have it all the same"
            )


class Originals:
    """The features of a data set's originals: computed once, then read from hvqbench's cache."""

    def __init__(self) -> None:
        self._known: dict[str, Features] = {}

    def __call__(self, metric: SetMetric, version: str, task: SetTask, workers: SetWorkers) -> Features:
        images = [member.image_sha256 for member in task.members]
        _, *libraries = version.split()  # the metric's own version is not the features'
        name = hashlib.sha256(json.dumps([metric.descriptor, libraries, images]).encode()).hexdigest()
        if name not in self._known:
            self._known[name] = self._load(name, metric, task, workers)
        return self._known[name]

    def _load(self, name: str, metric: SetMetric, task: SetTask, workers: SetWorkers) -> Features:
        from io import BytesIO

        from hvqbench.downloads import cache_folder, keep

        path = cache_folder() / "features" / f"{metric.descriptor}-{name[:16]}.npy"
        if path.is_file():
            try:
                return np.load(path, allow_pickle=False)
            except (ValueError, OSError, EOFError):  # damaged: computed again
                path.unlink()
        features = np.concatenate([workers.describe(metric.info.id, m.device, m.image) for m in task.members])
        file = BytesIO()
        np.save(file, features)
        keep(path, file.getvalue())
        return features


class SetScorer:
    """Does set tasks, and remembers values: codecs that restore the same pixels have the same."""

    def __init__(self, store: Store, known: Iterable[Row], advance: Advance) -> None:
        self._store = store
        self._advance = advance
        self._originals = Originals()
        self._values: dict[tuple[str, str], tuple[float, int]] = {}
        for row in known:
            if row["status"] == SET:
                for name, version in versions_in(row).items():
                    self._values[row["reconstruction_sha256"], version] = row[name], row["patches"]

    def __call__(self, task: SetTask, workers: SetWorkers) -> Row:
        """The finished row, with status ``set`` or ``failed``."""
        first = task.members[0]
        row = first.row(SET) | {"image": "", "key": task.key, "width": None, "height": None, "image_sha256": ""}
        try:
            found = self._measure(task, workers)
        except WorkerError as error:
            return row | {"status": "failed", "reason": str(error)}
        earlier = task.earlier or {}
        versions = (versions_in(task.earlier) if task.earlier else {}) | dict(task.metrics)
        return (
            earlier
            | row
            | found
            | {
                "bpp": float(np.mean([member["bpp"] for member in task.rows])),
                "images": len(task.members),
                "metrics": json.dumps(versions),
                "reconstruction_sha256": task.pixels,
                "protocol": task.rows[0].get("protocol", ""),
                "started": now(),
            }
        )

    def _measure(self, task: SetTask, workers: SetWorkers) -> Row:
        from hvqbench.metrics import load_set_metric

        pixels = task.pixels
        features: dict[str, Features] = {}
        found: Row = {}
        for name, version in task.metrics.items():
            if (pixels, version) not in self._values:
                metric = load_set_metric(name)
                if metric.descriptor not in features:
                    features[metric.descriptor] = self._describe(name, task, workers)
                own = features[metric.descriptor]
                value = metric.distance(self._originals(metric, version, task, workers), own)
                self._values[pixels, version] = value, len(own)
            found[name], found["patches"] = self._values[pixels, version]
        if not features:
            self._advance(f"{task.members[0].codec} {task.members[0].point:g}", False)
        return found

    def _describe(self, metric: str, task: SetTask, workers: SetWorkers) -> Features:
        """The features of all decoded images, in the data set's order."""
        parts = []
        for member, row in zip(task.members, task.rows, strict=True):
            data = self._store.stream(row["bitstream_sha256"])
            if data is None:
                raise WorkerError(f"the bitstream of {row['image']} is not kept any more: run with --rerun all")
            decoded = decode(member, workers, data, row["digest"])
            parts.append(workers.describe(metric, member.device, decoded.image))
            self._advance(f"{metric} of {member.codec} {member.point:g} {row['image']}", False)
        return np.concatenate(parts)
