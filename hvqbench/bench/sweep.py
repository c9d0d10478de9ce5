"""The sweep: plan, measure what is missing, keep every row, return them all."""

from __future__ import annotations

import functools
import math
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import hvqbench
from hvqbench.bench.executor import execute, open_teams, threads_per_process
from hvqbench.bench.plan import (
    Rerun,
    by_image,
    check_device,
    find_codec,
    lacking,
    library_versions,
    look_at,
    make_plan,
    metric_versions,
    note,
    pending,
)
from hvqbench.bench.progress import progress as show_progress
from hvqbench.bench.store import Identity, Row, Store, current, identity, newest, to_frame
from hvqbench.bench.task import Task, now
from hvqbench.errors import HvqbenchError, UnavailableError

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.data import Dataset


def run(
    codecs: str | Sequence[str],
    dataset: str | Path | Dataset,
    *,
    metrics: Sequence[str] | None = None,
    points: Sequence[float] | None = None,
    results: str | Path = "results",
    jobs: int = 1,
    rerun: Rerun = "missing",
    device: str = "cpu",
    progress: bool = True,
    limit: int | None = None,
) -> pd.DataFrame:
    """Run codecs over a data set; what is in *results* already is not measured again.

    Parameters
    ----------
    codecs
        Ids that ``hvqbench ls codecs`` shows, or paths of ``codec.toml`` files.
    dataset
        An id, a folder of images, or a :class:`~hvqbench.data.Dataset`.
    metrics
        Metric ids; by default all that can run here.
    points
        Operating points; by default each codec's own ladder.
    results
        The folder of the store. To resume a sweep that was stopped is to call this again.
    jobs
        Teams of processes at work at the same time. Times are only reported as speed if it is 1.
    rerun
        ``"missing"`` measures what has no row, ``"failed"`` also what failed, ``"all"`` everything, ``"never"``
        nothing.
    device
        Where codecs run, as torch names it.
    limit
        Only the first so many images.

    Returns
    -------
    pandas.DataFrame
        The rows that were asked for, measured now or before, with the columns of
        :func:`~hvqbench.bench.store.read_results`; failures, and codecs that cannot run, are rows with ``status`` and
        ``reason``.

    Raises
    ------
    HvqbenchError
        An unknown name, a metric that was named and cannot run, a store that cannot be written.
    """
    from hvqbench.data import Dataset, load_dataset

    check_arguments(jobs, rerun, limit, points)
    names = [codecs] if isinstance(codecs, str) else list(dict.fromkeys(codecs))
    entries = [find_codec(name) for name in names]
    wanted = metric_versions(_usable_metrics(metrics))
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    store = Store(results)
    store.open()
    pictures = look_at(data, limit, store.root / ".images.json")
    known = {identity(row): row for row in store.rows(data.id)}
    reasons = {entry.spec.id: entry.broken for entry in entries if entry.broken}
    context = circumstances(jobs)

    tasks = make_plan(entries, data.id, pictures, wanted, points, device)
    if todo := pending(tasks, known, rerun):
        check_device(device)
        at_work = {task.codec for task in todo}
        reasons |= {e.spec.id: reason for e in entries if e.spec.id in at_work and (reason := e.unavailable())}
    notes = [note(data.id, e, "unavailable", reasons[e.spec.id]) for e in entries if e.spec.id in reasons]
    bad = [picture for picture in pictures if picture.unreadable]
    notes += [note(data.id, e, "failed", p.unreadable, p.file.name) for p in bad for e in entries if not e.broken]
    for row in notes:
        store.append(context | row)

    if todo := [task for task in todo if task.codec not in reasons]:
        libraries = {entry.spec.id: library_versions(entry.codec) for entry in entries}
        with open_teams(jobs) as teams:
            unready = teams[0].prepare_metrics(tuple(wanted))
            if unready:
                _report_unready(unready, named=metrics is not None)
                wanted = {name: version for name, version in wanted.items() if name not in unready}
                todo = [replace(task, metrics=wanted) for task in todo]
                todo = [task for task in todo if task.earlier is None or lacking(task, task.earlier)]
            with show_progress(len(todo), progress) as advance:
                for row, stream in execute(by_image(todo), teams, functools.partial(_stored, store)):
                    if stream is not None:
                        store.keep_stream(stream)
                    # A row that was measured before and got more metrics keeps the circumstances of its times.
                    measured_in = context | {"libraries": libraries[row["codec"]]}
                    store.append(measured_in | row | {"command": context["command"]})
                    advance(f"{row['codec']} {row['point']:g} {row['image']}", row["status"] == "failed")
    return _finish(store, data.id, {task.identity for task in tasks} | {identity(row) for row in notes})


def _stored(store: Store, task: Task) -> bytes | None:
    """The bitstream of the row that *task* adds metrics to."""
    return store.stream(task.earlier["bitstream_sha256"]) if task.earlier else None


def _finish(store: Store, dataset: str, asked: set[Identity]) -> pd.DataFrame:
    """Merge the store's files, and return the rows that were asked for."""
    rows = store.rows(dataset)
    # Who went back to an older version of a codec wants to read what was just run: those rows become the newest.
    counting = {identity(row) for row in current(rows)}
    stale = [row | {"started": now()} for row in rows if identity(row) in asked and identity(row) not in counting]
    for row in stale:
        store.append(row)
    store.compact(dataset)
    return to_frame(row for row in newest([*rows, *stale]) if identity(row) in asked)


def check_arguments(jobs: int, rerun: str, limit: int | None, points: Sequence[float] | None) -> None:
    """Raise on what no sweep can mean."""
    if jobs < 1:
        raise HvqbenchError(f"jobs is {jobs}; it must be 1 or more")
    if rerun not in get_args(Rerun):
        raise HvqbenchError(f"rerun is {rerun!r}; it must be one of {', '.join(get_args(Rerun))}")
    if limit is not None and limit < 1:
        raise HvqbenchError(f"limit is {limit}; it must be 1 or more, or be left out")
    if points is not None and not points:
        raise HvqbenchError("points is empty; name at least one, or leave it out for each codec's ladder")
    if points is not None and not all(map(math.isfinite, points)):
        raise HvqbenchError(f"points are {', '.join(f'{p:g}' for p in points)}; every one must be a finite number")


def _usable_metrics(names: Sequence[str] | None) -> list[str]:
    """By default all metrics whose packages are installed; one that was named and cannot run raises."""
    from hvqbench.metrics import metric_ids, metric_info

    chosen = list(metric_ids() if names is None else dict.fromkeys(names))
    missing = {name: reason for name in chosen if (reason := metric_info(name).unavailable())}
    _report_unready(missing, named=names is not None)
    return [name for name in chosen if name not in missing]


def _report_unready(reasons: dict[str, str], named: bool) -> None:
    for name, reason in reasons.items():
        if named:
            raise UnavailableError(f"metric {name} cannot run here: {reason}")
        sys.stderr.write(f"hvqbench: going on without metric {name}: {reason}\n")


def circumstances(jobs: int) -> Row:
    """What each row says of the circumstances it was measured in."""
    command = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
    return {
        "version": hvqbench.__version__,
        "host": platform.node(),
        "threads": threads_per_process(jobs),
        "jobs": jobs,
        "command": shlex.join(command),
    }
