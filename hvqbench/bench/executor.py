"""Runs tasks on this machine: one or more teams of three processes, an encoder, a decoder and a judge.

A process that dies takes the task that it was at with it, as a failed row with the reason, and is replaced. Teams on
other machines are of :mod:`~hvqbench.bench.ray_executor`.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from hvqbench.bench.task import Decoded, Encoded, Task, WorkerError, measure
from hvqbench.errors import HvqbenchError
from hvqbench.lineage import VARIABLE, end, new_line
from hvqbench.watchman import start_watchman

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvqbench.bench.rows import Row
    from hvqbench.codec import Image
    from hvqbench.data import ImageFile

T = TypeVar("T")
Result = TypeVar("Result")

TIMEOUT_S = 4 * 3600.0
"""How long an answer may take: generous, since a reference encoder takes minutes for a picture, but not for ever."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class LostTeamError(HvqbenchError):
    """A team is gone with its machine: what it was at is done by another one."""


def threads_per_process(jobs: int) -> int:
    """Threads for each worker: within a team they work in turn, so a team has its share of the cores to itself.

    ``OMP_NUM_THREADS`` overrides it.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(asked) if asked.isdigit() and int(asked) else max(1, cores // jobs)


@contextmanager
def open_teams(jobs: int, timeout_s: float = TIMEOUT_S) -> Iterator[list[Team]]:
    """As many teams as *jobs*; when the block ends, in whatever way, nothing of them is left."""
    teams = [Team(threads_per_process(jobs), timeout_s) for _ in range(jobs)]
    try:
        yield teams
    finally:
        close_processes(process for team in teams for process in team.processes)


def prepare(teams: Sequence[Team], source: str, device: str, metrics: tuple[str, ...]) -> dict[str, str]:
    """Have all processes load at the same time what the first task needs; metrics that cannot be had, with the reason.

    A codec that cannot be loaded is not said here: each of its tasks will say it.
    """
    teams = [team for team in teams if team.ready]
    with ThreadPoolExecutor(1 + 2 * len(teams)) as pool:
        try:
            loading: list[Future[Any]] = [pool.submit(team.load_encoder, source, device) for team in teams]
            loading += [pool.submit(team.load_decoder, source, device) for team in teams]
            unready = teams[0].prepare_metrics(metrics)  # the first alone: it may download
            judges = [pool.submit(team.prepare_metrics, metrics) for team in teams[1:]]
            wait(loading + judges)
            for judge in judges:
                unready |= {} if judge.exception() else judge.result()
        except BaseException:
            for team in teams:  # else the pool would wait for them
                team.close()
            raise
    return unready


def execute(
    groups: Sequence[Sequence[T]], teams: Sequence[Team], work: Callable[[T, Team], Result]
) -> Iterator[Result]:
    """Do all tasks, and yield each result as soon as it is there.

    Parameters
    ----------
    groups
        Tasks by image: a group is done by one team, so that a metric's features of the original are computed once.
    work
        Does one task with the processes of one team.
    """
    waiting: queue.SimpleQueue[Sequence[T] | None] = queue.SimpleQueue()
    for group in groups:
        waiting.put(group)
    finished: queue.SimpleQueue[Result | BaseException] = queue.SimpleQueue()
    stop = threading.Event()

    def serve(team: Team) -> None:
        try:
            while not stop.is_set():
                team.start()
                group = waiting.get()  # not before the team is there: others must not wait for what it holds
                if group is not None:
                    do(group, team)
        except BaseException as error:  # a bug in here: the main thread raises it
            finished.put(error)

    def do(group: Sequence[T], team: Team) -> None:
        for done, task in enumerate(group):
            try:
                result = work(task, team)
            except LostTeamError:
                waiting.put(group[done:])
                return
            if stop.is_set():
                return
            finished.put(result)

    try:
        for team in teams:
            threading.Thread(target=serve, args=(team,), daemon=True).start()
        for _ in range(sum(map(len, groups))):
            result = finished.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        for _ in teams:
            waiting.put(None)


class Team:
    """The :class:`~hvqbench.bench.task.Workers` of this machine.

    Parameters
    ----------
    threads
        Of each process.
    timeout_s
        How long one of them may take for an answer.
    """

    def __init__(self, threads: int, timeout_s: float = TIMEOUT_S) -> None:
        # Judge and describer may download: let that be seen.
        quiet = {"encoder": True, "decoder": True, "judge": False, "describer": False}
        self._processes = {role: Process(role, threads, said, timeout_s) for role, said in quiet.items()}

    @property
    def processes(self) -> list[Process]:
        return list(self._processes.values())

    @property
    def ready(self) -> bool:
        """Whether it would answer at once."""
        return True

    def start(self) -> None:
        """Return when the team is ready; processes of this machine are started when they are needed."""

    def call(self, role: str, *request: Any) -> Any:
        """The answer of one of the processes; raises :class:`~hvqbench.bench.task.WorkerError`."""
        return self._processes[role].call(*request)

    def measure(self, task: Task, stored: bytes | None) -> tuple[Row, bytes | None]:
        """As :func:`hvqbench.bench.task.measure`."""
        return measure(task, self, stored)

    def encode(self, source: str, device: str, image: ImageFile, point: float) -> Encoded:
        return self.call("encoder", source, device, image, point)

    def decode(self, source: str, device: str, data: bytes) -> Decoded:
        return self.call("decoder", source, device, data)

    def load_encoder(self, source: str, device: str) -> None:
        self.call("encoder", source, device, None, None)

    def load_decoder(self, source: str, device: str) -> None:
        self.call("decoder", source, device, None)

    def score(self, image: ImageFile, decoded: Image, metrics: tuple[str, ...]) -> dict[str, float]:
        return self.call("judge", image, decoded, metrics)

    def prepare_metrics(self, metrics: tuple[str, ...]) -> dict[str, str]:
        """Load the metrics; those that cannot be had, with the reason."""
        return self.call("judge", None, None, metrics)

    def describe(self, metric: str, device: str, image: ImageFile | Image) -> NDArray[np.float32]:
        return self.call("describer", metric, device, image)

    def prepare_set_metric(self, metric: str, device: str) -> str:
        """Load a metric of whole sets; why it cannot be had, or nothing."""
        return self.call("describer", metric, device, None)

    def close(self) -> None:
        close_processes(self.processes)


class Process:
    """A worker process, started when it is first called and again when it has died.

    Parameters
    ----------
    role
        One of :data:`hvqbench.bench.worker.ROLES`.
    quiet
        Whether what it prints is kept for its obituary, and not shown.
    timeout_s
        How long it may take for an answer; None for ever.
    """

    def __init__(self, role: str, threads: int, quiet: bool = True, timeout_s: float | None = TIMEOUT_S) -> None:
        self.role = role
        self._quiet = quiet
        self._threads = threads
        self._timeout_s = timeout_s
        self._running: _Running | None = None
        self._lock = threading.Lock()
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Of the process that runs now, if one does."""
        return self._running.process.pid if self._running else None

    def call(self, *request: Any) -> Any:
        """Send a request and wait for the answer."""
        running = self._start()
        process = running.process
        assert process.stdin is not None
        assert process.stdout is not None
        alarm = threading.Timer(self._timeout_s or 0, running.expire)
        alarm.daemon = True
        if self._timeout_s:
            alarm.start()
        try:
            pickle.dump(request, process.stdin, pickle.HIGHEST_PROTOCOL)
            process.stdin.flush()
            fine, answer = pickle.load(process.stdout)
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            raise WorkerError(self._bury(running)) from None
        finally:
            alarm.cancel()
        if running.expired:  # with the answer on its way: the process is gone all the same
            raise WorkerError(self._bury(running))
        if not fine:
            raise WorkerError(f"{self.role}: {answer}")
        return answer

    def close(self) -> None:
        """Kill the process and whatever it started."""
        close_processes([self])

    def stop(self) -> _Running | None:
        """Kill the process, and start no other; what it started is still to be killed."""
        with self._lock:
            self._closed = True
            running, self._running = self._running, None
        if running is not None:
            running.stop()
        return running

    def _start(self) -> _Running:
        with self._lock:
            if self._closed:
                raise WorkerError("the run was stopped")
            if self._running is None:
                start_watchman()
                self._running = _Running(self.role, self._threads, self._quiet)
            return self._running

    def _bury(self, running: _Running) -> str:
        """Forget a process that has died, and say what it died of."""
        with self._lock:
            if self._running is running:
                self._running = None
        if running.expired:
            running.end()
            return f"{self.role}: no answer after {self._timeout_s:g} s, so it was ended; --timeout gives more time"
        return f"the {self.role} process {running.obituary()}"


class _Running:
    """A worker process that runs.

    What tells its end is a thread that waits for it, and not the end of its answers: a child that it forked may hold
    that pipe for ever. The thread kills such children.
    """

    def __init__(self, role: str, threads: int, quiet: bool) -> None:
        self.line = new_line()
        self.expired = False
        self._stopped = False
        self._log: Any = tempfile.TemporaryFile() if quiet else None  # noqa: SIM115 - lives as long as the process
        # The caller's import path, and -P so that a file in the working directory hides no library.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), VARIABLE: self.line}
        environment |= dict.fromkeys(THREAD_VARIABLES, str(threads))
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from hvqbench.bench.worker import main; main({role!r})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which then ends the workers
        )
        self._undertaker = threading.Thread(target=self._wait, daemon=True)
        self._undertaker.start()

    def expire(self) -> None:
        """Its time is over."""
        self.expired = True
        self._kill()

    def stop(self) -> None:
        """Kill it alone: whoever stops several processes kills at once what all of them have started."""
        self._stopped = True
        self._kill()

    def end(self) -> None:
        """Kill it, and return when it is gone with all that it started."""
        self._kill()
        self._undertaker.join()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def obituary(self) -> str:
        """What it died of, or did instead of answering."""
        self._undertaker.join(5)  # its pipe closes a moment before it is gone
        code = self.process.poll()
        self.end()
        last = ""
        if self._log is not None:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace").split("\n")
            last = next((f"; it last said: {line.strip()[:200]}" for line in reversed(said) if line.strip()), "")
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            hint = ", perhaps for want of memory (fewer --jobs need less)" if name == "SIGKILL" else ""
            return f"was killed by {name}{hint}{last}"
        return f"ended with exit code {code}{last}"

    def _wait(self) -> None:
        self.process.wait()
        if not self._stopped:
            end(self.line)

    def _kill(self) -> None:
        if self.process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)


def close_processes(processes: Iterable[Process]) -> None:
    """Kill processes and whatever they started."""
    stopped = [running for process in processes if (running := process.stop())]
    end(*(running.line for running in stopped))
    for running in stopped:
        running.end()
