"""The sweep: plan, measure what is missing, keep every row, return them all."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hvqbench
from hvqbench.advice import given_command
from hvqbench.bench.current import current, one_version
from hvqbench.bench.executor import Team, execute, open_teams, prepare
from hvqbench.bench.plan import (
    Codecs,
    by_image,
    check_device,
    find_entries,
    lacking,
    library_versions,
    look_at,
    make_plan,
    metric_versions,
    notes_of,
    pending,
)
from hvqbench.bench.process import threads_per_process
from hvqbench.bench.progress import Advance
from hvqbench.bench.progress import progress as show_progress
from hvqbench.bench.reading import to_frame
from hvqbench.bench.request import Request
from hvqbench.bench.rows import Identity, Row, identity, newest, of_set
from hvqbench.bench.sets import SetScorer, WholeSets, check_size, plan_sets
from hvqbench.bench.store import Store
from hvqbench.bench.task import Task, now
from hvqbench.errors import UnavailableError, say

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.data import Dataset


def run(codecs: Codecs, dataset: str | Path | Dataset, **options: Any) -> pd.DataFrame:
    """Run codecs over a data set; what is in *results* already is not measured again.

    Parameters
    ----------
    codecs, dataset, options
        As of :class:`~hvqbench.bench.request.Request`.

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
    return sweep(Request(codecs, dataset, **options))


def sweep(request: Request) -> pd.DataFrame:
    """Do what is asked for; see :func:`run`."""
    from hvqbench.data import Dataset, load_dataset

    entries = find_entries(request.codecs, request.points)
    wanted, of_sets = split_metrics(usable_metrics(request.metrics))
    data = request.dataset if isinstance(request.dataset, Dataset) else load_dataset(request.dataset)
    store = Store(request.results)
    store.open()
    pictures = look_at(data, request.limit, store.root / ".images.json")
    check_size(of_sets, data.id, [(p.width, p.height) for p in pictures if not p.unreadable], request.small_sets)
    known = {identity(row): row for row in store.rows(data.id, {entry.spec.id for entry in entries})}
    reasons = {entry.spec.id: entry.broken for entry in entries if entry.broken}
    context = circumstances(request.jobs)

    tasks = make_plan(entries, data.id, pictures, wanted, request.points, request.device)
    if todo := pending(tasks, known, request.rerun):
        if request.executor == "local":  # a cluster's nodes look at their own
            check_device(request.device)
        at_work = {task.codec for task in todo}
        reasons |= {e.spec.id: reason for e in entries if e.spec.id in at_work and (reason := e.unavailable())}
    notes = notes_of(data.id, entries, reasons, pictures)
    for row in notes:
        store.append(context | row)

    todo = [task for task in todo if task.codec not in reasons]
    asked = {task.identity for task in tasks} | {identity(row) for row in notes}
    circumstances_of = {
        entry.spec.id: context
        | {"libraries": library_versions(entry.codec), "protocol": " ".join(entry.spec.protocol.flags)}
        for entry in entries
    }
    at_home = request.executor == "local" or not (todo or of_sets)
    with open_teams(request.jobs, request.timeout_s) if at_home else _open_cluster(request) as teams:
        if todo:
            if unready := prepare(teams, todo[0].source, request.device, tuple(wanted)):
                _report_unready(unready, named=request.metrics is not None)
                wanted = {name: version for name, version in wanted.items() if name not in unready}
                todo = [replace(task, metrics=wanted) for task in todo]
                todo = [task for task in todo if task.earlier is None or lacking(task, task.earlier)]
            measure_images(store, todo, teams, circumstances_of, request.progress)
        nothing_new = not (todo or notes or of_sets)
        if of_sets:
            usable = [task for task in tasks if task.codec not in reasons]
            whole = WholeSets(data.id, len(pictures), of_sets)
            asked |= measure_sets(
                store, whole, usable, teams, circumstances_of, request.progress, request.rerun != "never"
            )
    return finish(store, data.id, asked, list(known.values()) if nothing_new else None)


def _open_cluster(request: Request) -> AbstractContextManager[list[Team]]:
    from hvqbench.bench.ray_executor import Share, open_ray_teams

    share = Share.of(request.per_job or {}, request.device)
    return open_ray_teams(request.jobs, request.address, share, request.timeout_s)


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
    scorer: Callable[[Store, Iterable[Row], Advance], SetScorer] = SetScorer,
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
            for row in execute([[task] for task in todo], teams, scorer(store, known.values(), advance)):
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
