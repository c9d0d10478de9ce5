"""Runs tasks on the machines of a Ray cluster: each job is an actor, and holds a team of processes on its machine.

::

    this machine                                  a node
    store <── execute() <── RayTeam  ── task, image's file, kept stream ──>  NodeTeam ── encoder, decoder, judge
                                     <──────── row, new stream ───────────

Images travel. Codecs do not: their definitions, adapters and weights must lie at the same paths on every node, or be
installed there; a row is only measured where a codec's fingerprint and the metrics' versions are those of the plan.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hvqbench
from hvqbench.bench.executor import LostTeamError, Team
from hvqbench.bench.node import CarriedImage, NodeTeam
from hvqbench.bench.process import TIMEOUT_S
from hvqbench.bench.rows import Identity, Row
from hvqbench.bench.task import Task, WorkerError
from hvqbench.catalog import CATALOG_VARIABLE
from hvqbench.data import ImageFile
from hvqbench.errors import HvqbenchError, UnavailableError, say

ATTEMPTS = 3
"""How many teams a task may cost before it is a failed row: it may be what they die of."""
PATIENCE_S = 10
"""How long to wait for the other teams when the first is there, and between two words about waiting."""


@dataclass(frozen=True)
class Share:
    """What a job takes of a node, as Ray counts it: cores, GPUs (a part of one is fine), and GB of memory."""

    cpu: float = 1
    gpu: float = 0
    memory: float = 0

    @classmethod
    def of(cls, amounts: Mapping[str, float], device: str) -> Share:
        """From what the user named; a job on ``cuda`` takes a whole GPU unless told."""
        defaults = {"gpu": 1.0 if device.startswith("cuda") else 0.0}
        try:
            share = cls(**(defaults | dict(amounts)))
        except TypeError:
            raise HvqbenchError(f"a job's share names {', '.join(amounts)}; it is of cpu, gpu and memory") from None
        if share.cpu <= 0 or share.gpu < 0 or share.memory < 0:
            raise HvqbenchError(f"a job's share is {share}; cpu must be above 0, gpu and memory 0 or more")
        return share

    def __str__(self) -> str:
        return f"cpu={self.cpu:g},gpu={self.gpu:g},memory={self.memory:g}"

    @property
    def options(self) -> dict[str, Any]:
        return {"num_cpus": self.cpu, "num_gpus": self.gpu, "memory": int(self.memory * 1e9) or None}


@contextmanager
def open_ray_teams(jobs: int, address: str | None, share: Share, timeout_s: float = TIMEOUT_S) -> Iterator[list[Team]]:
    """As many teams as *jobs*, on the cluster at *address*; when the block ends, in whatever way, they are gone.

    Of the teams some may still wait for room. Raises :class:`~hvqbench.errors.HvqbenchError` if there is no cluster.
    """
    ray = _import_ray()
    own = not ray.is_initialized()
    if own:
        _connect(ray, address)
    losses: Counter[Identity] = Counter()
    teams = [RayTeam(ray, share, losses, timeout_s) for _ in range(jobs)]
    try:
        _gather(ray, teams)
        yield list(teams)
    finally:
        with ThreadPoolExecutor(len(teams)) as pool:
            list(pool.map(RayTeam.close, teams))
        if own:
            ray.shutdown()


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UnavailableError(
            "--executor ray needs the package ray, which is not installed: pip install 'hvqbench[ray]'"
        ) from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    address = address or os.environ.get("RAY_ADDRESS") or "auto"
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit() and "/" not in host:  # Ray itself would try for many minutes
            socket.create_connection((host, int(port)), timeout=PATIENCE_S).close()
        ray.init(address, log_to_driver=False, logging_level="error", configure_logging=False)
    except (OSError, RuntimeError, ValueError) as error:
        where = "on this machine" if address == "auto" else f"at {address}"
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        remedy = "start one with `ray start --head`, or name another with --address"
        raise HvqbenchError(f"no Ray cluster {where} ({reason}): {remedy}") from None


def _gather(ray: Any, teams: Sequence[RayTeam]) -> None:
    """Wait for one of the teams, and a moment for the others."""
    calls = [team.launch() for team in teams]
    while not ray.wait(calls, timeout=PATIENCE_S)[0]:
        free = ray.available_resources()
        room = f"cpu={free.get('CPU', 0):g},gpu={free.get('GPU', 0):g},memory={free.get('memory', 0) / 1e9:.3g}"
        say(f"waiting for a node with room for a job ({teams[0].share}); free in all are {room}")
    ray.wait(calls, num_returns=len(calls), timeout=PATIENCE_S)
    there = [team for team, call in zip(teams, calls, strict=True) if ray.wait([call], timeout=0)[0]]
    for team in there:
        team.start()
    if len(there) < len(teams):
        say(f"{len(there)} of {len(teams)} jobs have found a node; the others begin when there is room")


class RayTeam(Team):
    """A team on whatever node has room for it; if that is lost, on another one."""

    def __init__(self, ray: Any, share: Share, losses: Counter[Identity], timeout_s: float = TIMEOUT_S) -> None:
        self.share = share
        self._timeout_s = timeout_s
        self._ray = ray
        self._losses = losses
        self._lock = threading.Lock()
        self._actor: Any = None
        self._greeting: Any = None
        self._node = ""
        self._closed = False
        self._carried: tuple[ImageFile | None, Any] = None, None

    @property
    def ready(self) -> bool:
        return bool(self._node)

    def launch(self) -> Any:
        """Have Ray look for a node; what :meth:`start` waits for."""
        if self._actor is None:
            kind = self._ray.remote(NodeTeam)
            # Calls of several processes of the team come at the same time; close() comes when it wants.
            options = self.share.options | {"max_concurrency": 8, "max_restarts": 0, "scheduling_strategy": "SPREAD"}
            threads = max(1, int(self.share.cpu))
            self._actor = kind.options(**options).remote(threads, os.getcwd(), _catalog(), self._timeout_s)
            self._greeting = self._actor.greet.remote()
        return self._greeting

    def start(self) -> None:
        while not self._node and not self._closed:
            with self._lock:
                if self._closed:
                    return
                greeting = self.launch()
            try:
                node, version = self._ray.get(greeting)
            except self._ray.exceptions.RayActorError as error:
                if error.actor_init_failed:
                    reason = str(error).strip().splitlines()[-1].strip()
                    remedy = "install there what is installed here, hvqbench and its plug-ins"
                    raise HvqbenchError(f"no job can start on a node: {reason}; {remedy}") from None
                self._forget()
                continue
            if version != hvqbench.__version__:
                raise HvqbenchError(
                    f"{node} has hvqbench {version}, this machine {hvqbench.__version__}: install the same on both"
                )
            self._node = node

    def call(self, role: str, *request: Any) -> Any:
        self.start()
        carried = [self._carry(part) if isinstance(part, ImageFile) else part for part in request]
        fine, answer = self._get("call", role, *carried)
        if not fine:
            raise WorkerError(answer)
        return answer

    def measure(self, task: Task, stored: bytes | None) -> tuple[Row, bytes | None]:
        """As of :class:`Team`, with all steps on the node."""
        if self._losses[task.identity] >= ATTEMPTS:
            return task.row("failed", f"{ATTEMPTS} jobs were lost with it; has a node memory enough for it?"), None
        try:
            image = self._carry(task.image)
        except OSError as error:
            return task.row("failed", f"cannot read {task.image.path}: {error.strerror}; check the file"), None
        try:
            return self._get("measure", task, image, stored)
        except LostTeamError:
            self._losses[task.identity] += 1
            raise

    def prepare_metrics(self, metrics: tuple[str, ...]) -> dict[str, str]:
        unready = super().prepare_metrics(metrics)
        return {name: f"on {self._node}: {reason}" for name, reason in unready.items()}

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._actor is not None:
                with suppress(Exception):  # the node may be gone
                    if self._node:  # else it waits for room, and has no processes
                        self._ray.get(self._actor.close.remote(), timeout=5)
                    self._ray.kill(self._actor)

    def _get(self, method: str, *arguments: Any) -> Any:
        node, actor = self._node, self._actor
        try:
            if actor is None:
                raise LostTeamError("its node is gone")
            return self._ray.get(getattr(actor, method).remote(*arguments))
        except self._ray.exceptions.RayTaskError:
            raise  # a bug in here
        except self._ray.exceptions.RayError as error:
            if not self._closed and node:
                say(f"lost a job on {node} ({type(error).__name__}): what it was at is done again by another")
            self._forget()
            raise LostTeamError(f"a job on {node} was lost: run the same command again") from None

    def _forget(self) -> None:
        with self._lock:
            actor, self._actor, self._node = self._actor, None, ""
        if actor is not None:
            with suppress(Exception):
                self._ray.kill(actor)  # it may only be out of reach, and must not go on beside its successor

    def _carry(self, image: ImageFile) -> Any:
        """The image in Ray's memory: it goes to a node once, however many points follow."""
        if self._carried[0] != image:
            carried = CarriedImage(image.name, image.path, image.path.read_bytes(), sha256=image.sha256)
            self._carried = image, self._ray.put(carried)
        return self._carried[1]


def _catalog() -> str:
    """The user's catalogs, as absolute paths."""
    folders = filter(None, os.environ.get(CATALOG_VARIABLE, "").split(os.pathsep))
    return os.pathsep.join(str(Path(folder).resolve()) for folder in folders)
