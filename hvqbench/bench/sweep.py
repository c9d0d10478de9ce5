"""The sweep: plan, measure what is missing, keep every row, return them all."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import hvqbench
from hvqbench.advice import given_command
from hvqbench.bench.current import current, one_version
from hvqbench.bench.executor import TIMEOUT_S, Team, execute, open_teams, prepare, threads_per_process
from hvqbench.bench.plan import (
    Rerun,
    by_image,
    check_device,
    find_entries,
    lacking,
    library_versions,
    look_at,
    make_plan,
    metric_versions,
    note,
    pending,
)
from hvqbench.bench.progress import progress as show_progress
from hvqbench.bench.reading import to_frame
from hvqbench.bench.rows import Identity, Row, identity, newest, of_set
from hvqbench.bench.sets import SetScorer, WholeSets, check_size, plan_sets
from hvqbench.bench.store import Store
from hvqbench.bench.task import Task, now
from hvqbench.errors import HvqbenchError, UnavailableError, say

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.data import Dataset

Executor = Literal["local", "ray"]
MAX_TIMEOUT_S = 1e6
"""More than a week; what a thread can wait for is limited."""


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
    small_sets: bool = False,
    executor: Executor = "local",
    address: str | None = None,
    per_job: Mapping[str, float] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> pd.DataFrame:
    """Run codecs over a data set; what is in *results* already is not measured again.

    Parameters
    ----------
    codecs
        Ids that ``hvqbench ls codecs`` shows, tags (``classic``), or paths of ``codec.toml`` files; each with
        ``@POINTS`` for points of its own: ``hypervq@0,1.6``.
    dataset
        An id, a folder of images, or a :class:`~hvqbench.data.Dataset`.
    metrics
        Metric ids; by default all of one image that ship with hvqbench or a plug-in, and can run here.
    points
        Operating points of the codecs that have none of their own; by default each codec's ladder.
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
    small_sets
        Compute metrics of whole sets also where the set has too few patches for them.
    executor
        ``"local"``, this machine, or ``"ray"``, a Ray cluster: ``docs/cluster.md``.
    address
        Of the Ray cluster, ``host:port``; by default ``RAY_ADDRESS``, or the one that this machine belongs to.
    per_job
        What a job takes of a node of the cluster: ``cpu``, ``gpu`` and ``memory`` in GB, by default one core, and one
        GPU if *device* is one.
    timeout_s
        How long an encoder, a decoder or a metric may take for one image; what takes longer is killed, and a failed
        row says so.

    Returns
    -------
    pandas.DataFrame
        The rows that were asked for, measured now or before, with the columns of
        :func:`~hvqbench.bench.reading.read_results`; failures, and codecs that cannot run, are rows with ``status`` and
        ``reason``.

    Raises
    ------
    HvqbenchError
        An unknown name, a metric that was named and cannot run, a set too small for it, a store that cannot be written.
    """
    from hvqbench.data import Dataset, load_dataset

    check_arguments(jobs, rerun, limit, points, timeout_s)
    if executor not in get_args(Executor):
        raise HvqbenchError(f"executor is {executor!r}; it must be one of {', '.join(get_args(Executor))}")
    if executor == "local" and (address or per_job):
        raise HvqbenchError("address and per-job are of a Ray cluster: add --executor ray, or leave them out")
    entries = find_entries(codecs, points)
    wanted, of_sets = split_metrics(usable_metrics(metrics))
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    store = Store(results)
    store.open()
    pictures = look_at(data, limit, store.root / ".images.json")
    check_size(of_sets, data.id, [(p.width, p.height) for p in pictures if not p.unreadable], small_sets)
    known = {identity(row): row for row in store.rows(data.id, {entry.spec.id for entry in entries})}
    reasons = {entry.spec.id: entry.broken for entry in entries if entry.broken}
    context = circumstances(jobs)

    tasks = make_plan(entries, data.id, pictures, wanted, points, device)
    if todo := pending(tasks, known, rerun):
        if executor == "local":  # a cluster's nodes look at their own
            check_device(device)
        at_work = {task.codec for task in todo}
        reasons |= {e.spec.id: reason for e in entries if e.spec.id in at_work and (reason := e.unavailable())}
    notes = [note(data.id, e, "unavailable", reasons[e.spec.id]) for e in entries if e.spec.id in reasons]
    bad = [picture for picture in pictures if picture.unreadable]
    notes += [note(data.id, e, "failed", p.unreadable, p.file.name) for p in bad for e in entries if not e.broken]
    for row in notes:
        store.append(context | row)

    todo = [task for task in todo if task.codec not in reasons]
    asked = {task.identity for task in tasks} | {identity(row) for row in notes}
    circumstances_of = {
        entry.spec.id: context
        | {"libraries": library_versions(entry.codec), "protocol": " ".join(entry.spec.protocol.flags)}
        for entry in entries
    }
    at_home = executor == "local" or not (todo or of_sets)
    with open_teams(jobs, timeout_s) if at_home else _open_cluster(jobs, address, per_job, device, timeout_s) as teams:
        if todo:
            if unready := prepare(teams, todo[0].source, device, tuple(wanted)):
                _report_unready(unready, named=metrics is not None)
                wanted = {name: version for name, version in wanted.items() if name not in unready}
                todo = [replace(task, metrics=wanted) for task in todo]
                todo = [task for task in todo if task.earlier is None or lacking(task, task.earlier)]
            measure_images(store, todo, teams, circumstances_of, progress)
        nothing_new = not (todo or notes or of_sets)
        if of_sets:
            usable = [task for task in tasks if task.codec not in reasons]
            whole = WholeSets(data.id, len(pictures), of_sets)
            asked |= measure_sets(store, whole, usable, teams, circumstances_of, progress, rerun != "never")
    return finish(store, data.id, asked, list(known.values()) if nothing_new else None)


def _open_cluster(
    jobs: int, address: str | None, per_job: Mapping[str, float] | None, device: str, timeout_s: float
) -> AbstractContextManager[list[Team]]:
    from hvqbench.bench.ray_executor import Share, open_ray_teams

    return open_ray_teams(jobs, address, Share.of(per_job or {}, device), timeout_s)


def measure_images(
    store: Store,
    todo: Sequence[Task],
    teams: Sequence[Team],
    circumstances_of: Mapping[str, Row],
    progress: bool,
) -> None:
    """Do the tasks *todo*, and keep each row in *store* when it is finished.

    Parameters
    ----------
    circumstances_of
        What a row of each codec says of how it was made.
    """

    def work(task: Task, team: Team) -> tuple[Row, bytes | None]:
        stored = store.stream(task.earlier["bitstream_sha256"]) if task.earlier else None
        return team.measure(task, stored)

    with show_progress(len(todo), progress) as advance:
        for row, stream in execute(by_image(todo), teams, work):
            if stream is not None:
                store.keep_stream(stream)
            # A row that was measured before and got more metrics keeps the circumstances of its times.
            context = circumstances_of[row["codec"]]
            store.append(context | row | {"command": context["command"]})
            failed = row["status"] == "failed" or bool(row["reason"])
            advance(f"{row['codec']} {row['point']:g} {row['image']}", failed, row)


def measure_sets(
    store: Store,
    whole: WholeSets,
    tasks: Sequence[Task],
    teams: Sequence[Team],
    circumstances_of: Mapping[str, Row],
    progress: bool,
    measure_missing: bool = True,
) -> set[Identity]:
    """Compute metrics of *whole* sets from the rows that *tasks* have in *store*; the identities of their rows."""
    known = {identity(row): row for row in store.rows(whole.dataset)}
    planned = plan_sets(tasks, known, whole)
    todo = [task for task in planned if task.metrics]
    if todo and measure_missing:
        for name in whole.metrics:
            if reason := next(t for t in teams if t.ready).prepare_set_metric(name, todo[0].members[0].device):
                _report_unready({name: reason}, named=True)
        with show_progress(sum(len(task.members) for task in todo), progress) as advance:
            for row in execute([[task] for task in todo], teams, SetScorer(store, known.values(), advance)):
                store.append(circumstances_of[row["codec"]] | row)
    return {(whole.dataset, task.members[0].codec, "", task.key) for task in planned}


def finish(store: Store, dataset: str, asked: set[Identity], rows: list[Row] | None = None) -> pd.DataFrame:
    """Merge the store's files, and return the rows that were asked for; *rows* are all of them, if they are known."""
    rows = store.rows(dataset, {codec for _, codec, _, _ in asked}) if rows is None else rows
    # Who went back to an older version of a codec wants to read what was just run: those rows become the newest.
    counting = {identity(row) for row in current(rows)}
    # Set rows count as long as their images do.
    images = [row for row in rows if not of_set(row)]
    stale = [row | {"started": now()} for row in images if identity(row) in asked and identity(row) not in counting]
    stale = [store.append(row) for row in stale]
    if problem := store.compact(dataset).problem:
        say(problem)
    return one_version(to_frame(row for row in newest([*rows, *stale]) if identity(row) in asked))


def check_arguments(
    jobs: int, rerun: str, limit: int | None, points: Sequence[float] | None, timeout_s: float = TIMEOUT_S
) -> None:
    """Raise on what no sweep can mean."""
    if jobs < 1:
        raise HvqbenchError(f"jobs is {jobs}; it must be 1 or more")
    if rerun not in get_args(Rerun):
        raise HvqbenchError(f"rerun is {rerun!r}; it must be one of {', '.join(get_args(Rerun))}")
    if limit is not None and limit < 1:
        raise HvqbenchError(f"limit is {limit}; it must be 1 or more, or be left out")
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise HvqbenchError(f"timeout_s is {timeout_s:g}; it must be above 0 and at most {MAX_TIMEOUT_S:g}")
    if points is not None and not points:
        raise HvqbenchError("points is empty; name at least one, or leave it out for each codec's ladder")
    if points is not None and not all(map(math.isfinite, points)):
        raise HvqbenchError(f"points are {', '.join(f'{p:g}' for p in points)}; every one must be a finite number")


def usable_metrics(names: Sequence[str] | None) -> list[str]:
    """By default all metrics of one image whose packages are installed; one that was named and cannot run raises.

    Those of extras have to be named.
    """
    from hvqbench.metrics import EXTRAS, metric_id, metric_ids, metric_info

    usual = [name for name in metric_ids() if name not in EXTRAS]
    chosen = _of_images(usual) if names is None else list(dict.fromkeys(map(metric_id, names)))
    missing = {name: reason for name in chosen if (reason := metric_info(name).unavailable())}
    _report_unready(missing, named=names is not None)
    return [name for name in chosen if name not in missing]


def split_metrics(names: Iterable[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The metrics of one image and those of whole sets, each with its version."""
    versions = metric_versions(list(names))
    of_images = {name: versions.pop(name) for name in _of_images(list(versions))}
    return of_images, versions


def _of_images(names: Iterable[str]) -> list[str]:
    from hvqbench.metrics import metric_info

    return [name for name in names if not metric_info(name).of_set]


def _report_unready(reasons: dict[str, str], named: bool) -> None:
    for name, reason in reasons.items():
        if named:
            raise UnavailableError(f"metric {name} cannot run here: {reason}")
        say(f"going on without metric {name}: {reason}")


def circumstances(jobs: int) -> Row:
    """What each row says of the circumstances it was measured in."""
    return {
        "version": hvqbench.__version__,
        "host": platform.node(),
        "threads": threads_per_process(jobs),
        "jobs": jobs,
        "command": given_command(),
    }
