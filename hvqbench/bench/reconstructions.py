"""Rows of pictures that others decoded: a folder of reconstructions and a table of bytes, in place of a codec.

So a codec that is closed, or needs a machine that is not here, stands beside the others. What cannot be checked is
said: its rows have the flag ``not-decoded``, since nothing here shows that those bytes give those pictures. The table
(:mod:`hvqbench.bench.sizes`) names all of the codec: what an earlier table had and the new one lacks no longer counts,
as with a codec that has changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from hvqbench.bench.executor import Team, execute, open_teams
from hvqbench.bench.plan import Picture, grouped, lacking, library_versions, look_at
from hvqbench.bench.progress import Advance
from hvqbench.bench.progress import progress as show_progress
from hvqbench.bench.rows import Identity, Row, identity, versions_in
from hvqbench.bench.score import Scored
from hvqbench.bench.sets import SetScorer, WholeSets, check_size
from hvqbench.bench.sizes import StatedSize, missing_pictures, read_sizes
from hvqbench.bench.store import Store
from hvqbench.bench.sweep import circumstances, finish, measure_sets, split_metrics, usable_metrics
from hvqbench.bench.task import Task, WorkerError
from hvqbench.errors import HvqbenchError, UnavailableError
from hvqbench.protocol import NOT_DECODED, Protocol, Rate

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvqbench.bench.sets import SetTask, SetWorkers
    from hvqbench.data import Dataset

_NAME = re.compile(r"[\w.@+-]+")


@dataclass(frozen=True)
class _Item:
    """A line, with what is known of its pictures."""

    stated: StatedSize
    task: Task
    picture: Picture


def score_reconstructions(
    folder: str | Path,
    sizes: str | Path,
    name: str,
    dataset: str | Path,
    *,
    metrics: Sequence[str] | None = None,
    rate: Rate | None = None,
    results: str | Path = "results",
    jobs: int = 1,
    small_sets: bool = False,
    progress: bool = True,
) -> Scored:
    """Score the pictures in *folder* as rows of a codec *name*. To resume is to call it again.

    Parameters
    ----------
    folder
        Decoded pictures, lossless: ``POINT/IMAGE.png``, or ``IMAGE.png`` where there is one point, or as the table
        says.
    sizes
        A CSV file with the columns ``image`` and ``bytes`` (of the whole file), and, as needed, ``point`` and ``file``
        (of the picture, below *folder*).
    name
        An id: a new one, or that of a codec in the catalog that has no coder here, whose declarations it then takes.
    dataset
        An id or a folder: the originals.
    metrics
        Metric ids, of one image or of whole sets; by default all of one image that can run here.
    rate
        What the bytes are, if no whole file.
    jobs, small_sets
        As of :func:`hvqbench.run`.

    Raises
    ------
    HvqbenchError
        A wrong table, a picture that is not there, a name that another codec has, a metric that cannot run.
    """
    from hvqbench.data import load_dataset

    point_name, protocol = _declared(name, rate)
    of_images, of_sets = split_metrics(usable_metrics(metrics))
    data = load_dataset(dataset)
    lines = read_sizes(Path(sizes), Path(folder), data)
    store = Store(results)
    store.open()
    cache = store.root / ".images.json"
    originals = {p.file.name: p for p in look_at(data, None, cache)}
    check_size(of_sets, data.id, [(p.width, p.height) for p in originals.values() if not p.unreadable], small_sets)
    items = _items(lines, name, point_name, data, originals, of_images, cache)
    known = {identity(row): row for row in store.rows(data.id)}
    own = [row for row in known.values() if row["codec"] == name]
    context = circumstances(jobs) | {"libraries": library_versions(None), "protocol": " ".join(protocol.flags)}
    context["protocol"] = f"{context['protocol']} {NOT_DECODED}".strip()

    todo = _to_do(items, own)
    asked = {item.task.identity for item in items}
    with open_teams(jobs) as teams:
        if todo and of_images and (reasons := teams[0].prepare_metrics(tuple(of_images))):
            metric, reason = next(iter(reasons.items()))
            raise UnavailableError(f"metric {metric} cannot run here: {reason}")
        with show_progress(len(todo), progress) as advance:
            for row in execute(list(grouped(todo, lambda item: item.stated.image).values()), teams, _measure):
                store.append(context | row)
                advance(f"{name} {row['point']:g} {row['image']}", row["status"] == "failed", row)
        if of_sets:
            whole = WholeSets(data.id, len(originals), of_sets)
            scorer = partial(_SetScorer, {item.task.identity: item.picture for item in items})
            tasks = [item.task for item in items]
            asked |= measure_sets(store, whole, tasks, teams, {name: context}, progress, scorer=scorer)
    return Scored(finish(store, data.id, asked), notes=missing_pictures(lines, name, data))


def _declared(name: str, rate: Rate | None) -> tuple[str, Protocol]:
    """What the point of codec *name* is called, and how its numbers come about."""
    from hvqbench.catalog import codec_files, load_spec

    if not _NAME.fullmatch(name):
        raise HvqbenchError(f"--name {name!r} is not an id: use letters, digits and . _ - + @")
    if rate is not None and rate not in get_args(Rate):
        raise HvqbenchError(f"--rate {rate!r}: choose one of {', '.join(get_args(Rate))}")
    point_name, protocol = "point", Protocol()
    if name in codec_files():
        spec = load_spec(name)
        if spec.adapter != "published":
            raise HvqbenchError(
                f"--name {name}: a codec of that name runs from its bitstreams, and the two must not be taken for one: "
                f"choose another, like {name}-authors"
            )
        point_name, protocol = spec.point_name, spec.protocol
    return point_name, protocol if rate is None else replace(protocol, rate=rate)


def _items(
    lines: Sequence[StatedSize],
    name: str,
    point_name: str,
    data: Dataset,
    originals: Mapping[str, Picture],
    metrics: Mapping[str, str],
    cache: Path,
) -> list[_Item]:
    from hvqbench.data import Dataset as Files
    from hvqbench.data import ImageFile

    files = tuple(ImageFile(f"{stated.image} at {stated.point:g}", stated.path) for stated in lines)
    pictures = look_at(Files(name, name, "", files), None, cache)
    # All that makes the codec: with another table it is another one, and rows of the two are in no curve together.
    made = sorted((t.image, t.point, t.bytes, p.sha256) for t, p in zip(lines, pictures, strict=True))
    fingerprint = hashlib.sha256(json.dumps(made).encode()).hexdigest()
    items = []
    for stated, picture in zip(lines, pictures, strict=True):
        original = originals[stated.image]
        task = Task(
            dataset=data.id,
            codec=name,
            source="",
            fingerprint=fingerprint,
            point=stated.point,
            point_name=point_name,
            device="cpu",
            image=original.file,
            image_sha256=original.sha256,
            width=original.width,
            height=original.height,
            metrics=metrics,
        )
        items.append(_Item(stated, task, picture if not original.unreadable else original))
    return items


def _to_do(items: Iterable[_Item], own: Sequence[Row]) -> list[_Item]:
    """Those of *items* that lack a row or a metric. What was measured of the same pictures before is taken over."""
    known: dict[Identity, Row] = {identity(row): row for row in own}
    of_pixels: dict[tuple[str, str], Row] = {}
    for row in own:
        if row["status"] == "ok":
            of_pixels[row["image_sha256"], row["reconstruction_sha256"]] = row
    todo = []
    for item in items:
        done = known.get(item.task.identity)
        if done is not None and done["status"] == "ok" and not lacking(item.task, done):
            continue
        earlier = of_pixels.get((item.task.image_sha256, item.picture.sha256))
        todo.append(replace(item, task=replace(item.task, earlier=earlier)))
    return todo


def _measure(item: _Item, team: Team) -> Row:
    """The finished row of *item*, ``ok`` or ``failed``."""
    task, picture = item.task, item.picture
    if picture.unreadable:
        return task.row("failed", picture.unreadable)
    if (picture.width, picture.height) != (task.width, task.height):
        sides = f"{picture.width}x{picture.height} pixels for an image of {task.width}x{task.height}"
        return task.row("failed", f"{item.stated.path} has {sides}: give it in the original's size")
    earlier = task.earlier or {}
    versions = versions_in(earlier) if earlier else {}
    missing = {metric: version for metric, version in task.metrics.items() if versions.get(metric) != version}
    row = task.row("ok") | {
        "bytes": item.stated.bytes,
        "bpp": 8 * item.stated.bytes / (task.width * task.height),
        "reconstruction_sha256": picture.sha256,
        "digest": picture.sha256,
        "bitstream_sha256": "",
    }
    row |= {metric: earlier[metric] for metric in versions}
    try:
        if missing:
            row |= team.score(task.image, picture.file.read(), tuple(missing))
    except (WorkerError, HvqbenchError) as error:
        return task.row("failed", str(error))
    return row | {"metrics": json.dumps(versions | missing)}


class _SetScorer(SetScorer):
    """Metrics of whole sets, of pictures instead of bitstreams."""

    def __init__(
        self, pictures: Mapping[Identity, Picture], store: Store, known: Iterable[Row], advance: Advance
    ) -> None:
        super().__init__(store, known, advance)
        self._pictures = pictures

    def _describe(self, metric: str, task: SetTask, workers: SetWorkers) -> NDArray[np.float32]:
        import numpy as np

        parts = []
        for member in task.members:
            try:
                pixels = self._pictures[member.identity].file.read()
            except HvqbenchError as error:
                raise WorkerError(str(error)) from None
            parts.append(workers.describe(metric, member.device, pixels))
            self._advance(f"{metric} of {member.codec} {member.point:g} {member.image.name}", False)
        return np.concatenate(parts)
