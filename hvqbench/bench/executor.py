"""Runs tasks on this machine: one or more teams of three processes, an encoder, a decoder and a judge.

A process that dies takes the task that it was at with it, as a failed row with the reason, and is replaced. Teams on
other machines are of :mod:`~hvqbench.bench.ray_executor`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from hvqbench.bench.process import TIMEOUT_S, Process, close_processes, threads_per_process
from hvqbench.bench.task import Decoded, Encoded, Task, measure
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hvqbench.bench.rows import Row
    from hvqbench.codec import Image
    from hvqbench.data import ImageFile

T = TypeVar("T")
Result = TypeVar("Result")


class LostTeamError(HvqbenchError):
    """A team is gone with its machine: what it was at is done by another one."""


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
