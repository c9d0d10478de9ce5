"""Times, in a pass of their own: serial, interleaved over codecs, warmed up, repeated, checked, with the machine told.

::

    results/_timing/<start of the pass>-<round>.parquet    one row per (codec, point, image) and round

A round times every codec at every point on every image once, in this process, one call after the other. A codec's calls
are shuffled and spread evenly over the round, so that what changes meanwhile (heat, the clock, other work) meets all
codecs alike, and ratios within a pass mean something even where its seconds do not. A round is kept when it is
finished: what an interrupted pass leaves is balanced too.

Every timed call is a checked one: the decoder is another object than the encoder, it has to restore what the encoder
meant, and the bytes have to be the same in every round. Otherwise the row is a failed one, without times.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvqbench.bench.machine import OtherWork, cpu_seconds, is_busy, machine_facts
from hvqbench.bench.plan import check_device, find_entries, grouped, library_versions, look_at, make_plan, notes_of
from hvqbench.bench.process import TIMEOUT_S, Process, threads_per_process
from hvqbench.bench.progress import progress as show_progress
from hvqbench.bench.request import check_arguments
from hvqbench.bench.rows import Identity, Row, after
from hvqbench.bench.sealed import open_sealed, seal
from hvqbench.bench.store import Store
from hvqbench.bench.sweep import circumstances
from hvqbench.bench.task import Decoded, Encoded, Task, WorkerError, measure, now
from hvqbench.bench.worker import Codecs, decoded, describe, encoded
from hvqbench.errors import HvqbenchError, say
from hvqbench.files import atomic_write
from hvqbench.time_limit import time_limit
from hvqbench.timing import record, span

if TYPE_CHECKING:
    import pandas as pd

    from hvqbench.codec import Image
    from hvqbench.data import Dataset, ImageFile

FOLDER = "_timing"
FRONT = (
    *("pass", "dataset", "codec", "point", "point_name", "image", "repeat", "status", "reason", "width", "height"),
    *("bytes", "encode_s", "encode_cpu_s", "decode_s", "decode_cpu_s"),
    *("encode_memory", "decode_memory", "encode_gpu_memory", "decode_gpu_memory"),
    *("encode_gpu_busy_s", "decode_gpu_busy_s", "parameters", "encode_macs_per_pixel", "decode_macs_per_pixel", "busy"),
)
"""Columns that come first in a table; stages (``encode_s.<span>``, ``decode_s.<span>``) and the rest follow."""


def time_codecs(
    codecs: str | Sequence[str],
    dataset: str | Path | Dataset,
    *,
    points: Sequence[float] | None = None,
    results: str | Path = "results",
    repeats: int = 3,
    device: str = "cpu",
    progress: bool = True,
    limit: int | None = None,
    timeout_s: float = TIMEOUT_S,
) -> pd.DataFrame:
    """Time codecs over a data set, and keep the rows beside the quality rows in *results*.

    Parameters
    ----------
    codecs, dataset, points, results, device, limit
        As of :func:`hvqbench.bench.run`. Ratios are against the first codec.
    repeats
        Rounds: how often every call is timed.
    timeout_s
        How long a call may take: after that it is interrupted, and its row is a failed one. Code that cannot be
        interrupted ends the pass; the rounds that are finished are kept.

    Returns
    -------
    pandas.DataFrame
        This pass, with the columns of :func:`read_timing`.

    Raises
    ------
    HvqbenchError
        An unknown name, no such device, a store that cannot be written.
    """
    from hvqbench.data import Dataset, load_dataset

    check_arguments(1, "all", limit, points, timeout_s)
    if repeats < 1:
        raise HvqbenchError(f"repeats is {repeats}; it must be 1 or more")
    load_average = os.getloadavg()[0]  # before this process raises it
    entries = find_entries(codecs, points)
    names = [entry.source for entry in entries]
    data = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    store = Store(results)
    store.open()
    pictures = look_at(data, limit, store.root / ".images.json")
    check_device(device)
    reasons = {entry.spec.id: reason for entry in entries if (reason := entry.unavailable())}
    notes = notes_of(data.id, entries, reasons, pictures)
    tasks = [task for task in make_plan(entries, data.id, pictures, {}, points, device) if task.codec not in reasons]
    tasks.sort(key=lambda task: names.index(task.source))  # stable: the first codec comes first, points in order

    start = after(now(), _newest_pass(store.root))
    context = circumstances(jobs=1) | {"pass": start, "repeats": repeats, "load_average": load_average}
    _warn_if_busy(load_average)
    libraries = {entry.spec.id: library_versions(entry.codec) for entry in entries}
    stopwatch = Stopwatch(timeout_s)
    rounds = []
    with show_progress(len(_largest(tasks)) + repeats * len(tasks), progress) as advance:
        memory = _warm_up(tasks, stopwatch, advance)
        context |= machine_facts(device)
        first: dict[Identity, str] = {}
        for number in range(1, repeats + 1):
            others = OtherWork()
            rows = {}
            for place, task in enumerate(interleave(tasks, seed=number)):
                row = _time_once(task, stopwatch, first)
                rows[task.identity] = (
                    row | memory.get((task.codec, task.point), {}) | {"repeat": number, "order": place}
                )
                advance(f"{task.codec} {task.point:g} {task.image.name}", row["status"] == "failed")
            cores = others.cores()
            busy = {"others_cores": cores, "busy": is_busy(load_average, cores)}
            told = [context | busy | {"libraries": libraries[task.codec]} | rows[task.identity] for task in tasks]
            told += [context | busy | {"repeat": 1} | row for row in notes if number == 1]
            rounds.append(_keep(store.root / FOLDER / f"{start.replace(':', '')}-{number}.parquet", told))
    return _join(rounds)


def read_timing(path: str | Path = "results", history: bool = False) -> pd.DataFrame:
    """The times in a folder of results.

    Parameters
    ----------
    path
        The folder that ``hvqbench run --timing`` wrote.
    history
        False: the newest pass over each data set. True: every pass. Compare codecs within a pass only (column
        ``pass``, the time at which it started).

    Returns
    -------
    pandas.DataFrame
        One row for each call: (pass, codec, operating point, image, ``repeat``), failures included; codecs in the
        order in which they were named. Times are in seconds: ``encode_s`` and ``decode_s`` on the clock,
        ``encode_cpu_s`` and ``decode_cpu_s`` of all threads and child processes, ``encode_s.<stage>`` and
        ``decode_s.<stage>`` of the codec's own spans (NaN where it has none). Memory is in bytes, see
        :func:`hvqbench.bench.machine.peak_memory`. ``busy`` says that others were working, and that seconds are
        therefore no speed. ``key`` is that of the quality rows (:func:`~hvqbench.bench.reading.read_results`).

    Raises
    ------
    HvqbenchError
        There are no times in that folder.
    """

    files = sorted((Path(path) / FOLDER).glob("[!.]*.parquet"))
    if not files:
        raise HvqbenchError(
            f"no times in {str(path)!r}: take them with --timing of `hvqbench run`, or name their folder"
        )
    table = _join(map(_read_round, files))
    if history:
        return table
    newest = table["pass"] == table.groupby("dataset")["pass"].transform("max")
    return table[newest].reset_index(drop=True)


def interleave(tasks: Iterable[Task], seed: int) -> list[Task]:
    """*tasks* in the order of a round: each codec's are shuffled, and spread evenly over the whole."""
    rng = random.Random(seed)
    places: list[tuple[float, Task]] = []
    for group in grouped(tasks, lambda task: task.codec).values():
        rng.shuffle(group)
        # One task in each of as many equal parts of the round as the codec has tasks.
        places += [((i + rng.random()) / len(group), task) for i, task in enumerate(group)]
    return [task for _, task in sorted(places, key=lambda place: place[0])]


class Stopwatch:
    """The :class:`~hvqbench.bench.task.Workers` of this process: it times what it does, and computes no metric.

    Parameters
    ----------
    timeout_s
        How long a call may take.
    """

    columns: Row
    """Of the last task: CPU times and stages."""

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._encoders, self._decoders = Codecs(), Codecs()
        self.columns = {}

    def encode(self, source: str, device: str, image: ImageFile, point: float) -> Encoded:
        self.columns = {}
        try:
            codec = self._encoders(source, device)
            with time_limit(self.timeout_s, f"encoding {image.name} by {codec.id} at {point:g}"):
                stream, seconds = self._time("encode", codec.encode, image.read(), point)
            return encoded(codec, stream, seconds)
        except Exception as error:  # an adapter's own, of any kind
            raise WorkerError(f"encoder: {describe(error)}") from error

    def decode(self, source: str, device: str, data: bytes) -> Decoded:
        try:
            codec = self._decoders(source, device)
            with time_limit(self.timeout_s, f"decoding {len(data)} bytes by {codec.id}"):
                image, seconds = self._time("decode", codec.decode, data)
            return decoded(codec, data, image, seconds)
        except Exception as error:
            raise WorkerError(f"decoder: {describe(error)}") from error

    def score(self, image: ImageFile, decoded: Image, metrics: tuple[str, ...]) -> dict[str, float]:
        return {}

    def _time(self, what: str, function: Callable[..., Any], *arguments: object) -> tuple[Any, float]:
        """The result and the seconds. A span at the outside waits for the GPU at both ends."""
        cpu = cpu_seconds()
        with record() as seconds, span(""):
            result = function(*arguments)
        cpu = cpu_seconds() - cpu
        whole = seconds.pop("")
        self.columns |= {f"{what}_cpu_s": cpu} | {f"{what}_s.{stage}": value for stage, value in seconds.items()}
        return result, whole


def _warm_up(tasks: Sequence[Task], stopwatch: Stopwatch, advance: Callable[[str, bool], None]) -> dict[Any, Row]:
    """Run every codec at every point once, on the largest image; memory and work of that, by codec and point.

    They are measured in two further processes for each codec, since what this one holds belongs to all of them.
    """
    memory: dict[Any, Row] = {}
    for group in grouped(_largest(tasks), lambda task: task.codec).values():
        encoder, decoder = (Process("meter", threads_per_process(1), timeout_s=stopwatch.timeout_s) for _ in range(2))
        try:
            for task in group:
                row, data = measure(task, stopwatch)
                if row["status"] == "ok" and data is not None:
                    with suppress(WorkerError):  # no memory then, but times
                        arguments = (task.source, task.device)
                        peaks = {"encode": encoder.call(*arguments, task.image, task.point)}
                        peaks["decode"] = decoder.call(*arguments, data, task.point)
                        memory[task.codec, task.point] = _measured(peaks, task.width * task.height)
                advance(f"warming up {task.codec} {task.point:g}", row["status"] == "failed")
        finally:
            encoder.close()
            decoder.close()
    return memory


def _measured(found: dict[str, dict[str, float]], pixels: int) -> Row:
    """The columns of what two meters *found*, for an image of so many *pixels*."""
    row: Row = {"parameters": found["encode"]["parameters"]}
    for what, own in found.items():
        row |= {f"{what}_{kind}": own[kind] for kind in ("memory", "gpu_memory", "gpu_busy_s")}
        row[f"{what}_macs_per_pixel"] = own["macs"] / pixels
    return row


def _time_once(task: Task, stopwatch: Stopwatch, first: dict[Identity, str]) -> Row:
    """The row of one timed call; *first* holds the hash of each task's bytes, from when it was first done."""
    row, _ = measure(task, stopwatch)
    if row["status"] != "ok":
        return row
    if first.setdefault(task.identity, row["bitstream_sha256"]) != row["bitstream_sha256"]:
        return task.row("failed", "the encoder made other bytes than in an earlier round: it is not deterministic")
    return {name: value for name, value in row.items() if name != "metrics"} | stopwatch.columns


def _largest(tasks: Iterable[Task]) -> list[Task]:
    """For each codec and point the task with the largest image."""
    largest: dict[tuple[str, float], Task] = {}
    for task in tasks:
        other = largest.setdefault((task.codec, task.point), task)
        if task.width * task.height > other.width * other.height:
            largest[task.codec, task.point] = task
    return list(largest.values())


def _warn_if_busy(load_average: float) -> None:
    if is_busy(load_average):
        reason = f"the load average is {load_average:.2f} on {os.cpu_count()} cores, so others may be working"
        say(f"{reason}: these times will not be reported as speed; wait, and time again")


def _keep(path: Path, rows: list[Row]) -> pd.DataFrame:
    """Write a round's rows; the table that was written."""
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame(rows)
    path.parent.mkdir(exist_ok=True)
    atomic_write(path, seal(pa.Table.from_pandas(frame, preserve_index=False), {}))
    return frame


def _read_round(path: Path) -> pd.DataFrame:
    try:
        return open_sealed(path.read_bytes()).read().to_pandas()
    except Exception as error:  # of a damaged file, pyarrow's parsers raise almost anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise HvqbenchError(f"cannot read {path}: {reason}; remove the file and time again") from None


def _newest_pass(root: Path) -> str:
    """When the newest pass started, by the name of its file, in which a time has no colons."""
    found = sorted(path.name for path in (root / FOLDER).glob("[!.]*.parquet"))
    time = re.match(r"(.*T\d\d)(\d\d)(.*)([+-]\d\d)(\d\d)-\d+\.parquet$", found[-1]) if found else None
    return f"{time[1]}:{time[2]}:{time[3]}{time[4]}:{time[5]}" if time else ""


def _join(rounds: Iterable[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    table = pd.concat(rounds, ignore_index=True)
    return table[[name for name in FRONT if name in table] + [name for name in table if name not in FRONT]]
