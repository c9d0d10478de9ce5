"""New metrics for old results, from the kept bitstreams of every codec and data set in a store; nothing is encoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hvqbench.advice import codec_source, dataset_source
from hvqbench.bench.current import current
from hvqbench.bench.executor import open_teams
from hvqbench.bench.plan import Entry, Picture, find_codec, lacking, library_versions, look_at
from hvqbench.bench.process import TIMEOUT_S
from hvqbench.bench.request import check_arguments
from hvqbench.bench.rows import Row, identity
from hvqbench.bench.sets import WholeSets, check_size
from hvqbench.bench.store import Store
from hvqbench.bench.sweep import (
    circumstances,
    finish,
    measure_images,
    measure_sets,
    split_metrics,
    usable_metrics,
)
from hvqbench.bench.task import Task
from hvqbench.errors import HvqbenchError, UnavailableError, did_you_mean
from hvqbench.protocol import NOT_DECODED
from hvqbench.selection import choose_among

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Scored:
    """What :func:`score` did."""

    rows: pd.DataFrame
    """All rows that were asked for, measured now or before."""
    left_out: list[str] = field(default_factory=list)
    """What could not be scored, why, and what to do; one line each."""
    notes: list[str] = field(default_factory=list)
    """What was not asked for, and whoever reads the numbers should know; one line each."""


def score(
    metrics: Sequence[str],
    results: str | Path = "results",
    *,
    codecs: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    jobs: int = 1,
    small_sets: bool = False,
    progress: bool = True,
    timeout_s: float = TIMEOUT_S,
) -> Scored:
    """Add *metrics* to the rows that count now and lack them. To resume is to call it again.

    Parameters
    ----------
    metrics
        Metric ids, of one image or of whole sets.
    codecs
        Only these; by default all in the store.
    datasets
        Only these: ids, or the folders that were run over. By default all in the store.
    jobs, small_sets, timeout_s
        As of :func:`hvqbench.run`.

    Raises
    ------
    HvqbenchError
        No results, none of a name that was given, a metric that cannot run, or a set too small for it.
    """
    import pandas as pd

    check_arguments(jobs, "missing", None, None, timeout_s)
    of_images, of_sets = split_metrics(usable_metrics(metrics))
    store = Store(results)
    stored = {identity(row): row for row in store.rows()}
    counting = [row for row in current(list(stored.values())) if row["status"] == "ok"]
    told = {row["codec"] for row in counting if _is_told(row) and (codecs is None or row["codec"] in codecs)}
    rows = [stored[identity(row)] for row in counting]  # as they are stored, with values of older versions
    if not rows:
        raise HvqbenchError(f"no finished rows in {str(results)!r}: run `hvqbench run` first, or name its folder")
    store.open()
    commands = [str(row.get("command") or "") for row in rows]
    wanted = _folders(datasets, {row["dataset"] for row in rows}, commands)
    codecs = list(choose_among(codecs, {row["codec"] for row in rows})) if codecs is not None else None
    context = circumstances(jobs)
    again = "it has no bitstreams here: --reconstructions of `hvqbench score`, with --metric, scores its pictures again"
    scored = Scored(pd.DataFrame(), [f"codec {codec}: {again}" for codec in sorted(told)])
    rows = [row for row in rows if not _is_told(row)]
    frames = []
    with open_teams(jobs, timeout_s) as teams:
        if reasons := teams[0].prepare_metrics(tuple(of_images)) if of_images else {}:
            name, reason = next(iter(reasons.items()))
            raise UnavailableError(f"metric {name} cannot run here: {reason}")
        for dataset, place in wanted.items():
            own = [row for row in rows if row["dataset"] == dataset and (not codecs or row["codec"] in codecs)]
            pictures = _pictures(place, store.root, scored.left_out)
            if pictures is None or not own:
                continue
            entries = _entries(own, commands, scored.left_out)
            tasks = _tasks(own, entries, pictures, of_images, scored.left_out)
            sizes = {task.image.name: (task.width, task.height) for task in tasks}
            check_size(of_sets, dataset, list(sizes.values()), small_sets)
            circumstances_of = {
                codec: context | {"libraries": library_versions(entry.codec)} for codec, entry in entries.items()
            }
            measure_images(store, _to_do(tasks, store, scored.left_out), teams, circumstances_of, progress)
            asked = {task.identity for task in tasks}
            if of_sets:
                whole = WholeSets(dataset, len({row["image"] for row in own}), of_sets)
                asked |= measure_sets(store, whole, tasks, teams, circumstances_of, progress)
            frames.append(finish(store, dataset, asked))
    scored.rows = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return scored


def _is_told(row: Row) -> bool:
    """Whether *row* is of pictures that others decoded."""
    return NOT_DECODED in (row.get("protocol") or "").split()


def _folders(datasets: Sequence[str] | None, known: set[str], commands: Sequence[str]) -> dict[str, str]:
    """The data sets to score, by id: what :func:`hvqbench.data.load_dataset` takes."""
    if datasets is None:
        return {name: dataset_source(name, commands) for name in sorted(known)}
    chosen = {name if name in known else Path(name).resolve().name: name for name in datasets}
    for name in chosen:
        if name not in known:
            raise did_you_mean("dataset", name, known)
    return chosen


def _pictures(place: str, root: Path, left_out: list[str]) -> dict[str, Picture] | None:
    from hvqbench.data import load_dataset

    try:
        data = load_dataset(place)
    except HvqbenchError as error:
        left_out.append(f"data set {place}: {error}; one that was a folder is named by it: --dataset FOLDER")
        return None
    return {p.file.name: p for p in look_at(data, None, root / ".images.json") if not p.unreadable}


def _entries(rows: Iterable[Row], commands: Sequence[str], left_out: list[str]) -> dict[str, Entry]:
    """The codecs of *rows* that can decode here what they once encoded."""
    entries = {}
    for codec, fingerprint in {row["codec"]: row["codec_fingerprint"] for row in rows}.items():
        try:
            entry = find_codec(codec_source(codec, commands))
            reason = entry.unavailable()
        except HvqbenchError as error:
            left_out.append(f"codec {codec}: {error}")
            continue
        if reason is None and entry.fingerprint != fingerprint:
            reason = "it, its weights or its libraries have changed since: `hvqbench run` measures it anew"
        if reason is None:
            entries[codec] = entry
        else:
            left_out.append(f"codec {codec}: {reason}")
    return entries


def _tasks(
    rows: Iterable[Row],
    entries: dict[str, Entry],
    pictures: dict[str, Picture],
    metrics: dict[str, str],
    left_out: list[str],
) -> list[Task]:
    """A task for each of *rows* whose codec and original are here."""
    tasks = []
    for row in rows:
        if row["codec"] not in entries:
            continue
        where = f"{row['codec']} at {row['point']:g}, {row['dataset']} {row['image']}"
        picture = pictures.get(row["image"])
        if picture is None or picture.sha256 != row["image_sha256"]:
            left_out.append(f"{where}: the original is {'gone' if picture is None else 'another image now'}")
            continue
        task = Task(  # on the device that it was decoded on before
            dataset=row["dataset"],
            codec=row["codec"],
            source=entries[row["codec"]].source,
            fingerprint=row["codec_fingerprint"],
            point=row["point"],
            point_name=row["point_name"],
            device=row["device"],
            image=picture.file,
            image_sha256=picture.sha256,
            width=row["width"],
            height=row["height"],
            metrics=metrics,
            earlier=row,
        )
        tasks.append(task)
    return tasks


def _to_do(tasks: Iterable[Task], store: Store, left_out: list[str]) -> list[Task]:
    """Those of *tasks* that lack a metric and whose bitstream is kept; without it, they would be encoded."""
    todo = []
    for task in tasks:
        if task.earlier is None or not lacking(task, task.earlier):
            continue
        if store.stream(task.earlier["bitstream_sha256"]) is None:
            where = f"{task.codec} at {task.point:g}, {task.dataset} {task.image.name}"
            left_out.append(f"{where}: its bitstream is not kept; run its codec again with --rerun all")
            continue
        todo.append(task)
    return todo
