"""What a sweep is asked for, as one value that is checked when it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from hvqbench.bench.plan import Codecs, Rerun
from hvqbench.bench.process import TIMEOUT_S
from hvqbench.errors import HvqbenchError

if TYPE_CHECKING:
    from hvqbench.data import Dataset

Executor = Literal["local", "ray"]
MAX_TIMEOUT_S = 1e6
"""More than a week; what a thread can wait for is limited."""


@dataclass(frozen=True)
class Request:
    """What :func:`hvqbench.run` is to do.

    Parameters
    ----------
    codecs
        Ids that ``hvqbench ls codecs`` shows, tags (``classic``), or paths of ``codec.toml`` files; each with
        ``@POINTS`` for points of its own: ``hypervq@0,1.6``. A :class:`~hvqbench.codec.Codec`, or a subclass of it that
        can be imported and has ``points``, is run as well; each process makes it anew.
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
    progress
        Whether to show it, on stderr.
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

    Raises
    ------
    HvqbenchError
        A value that no sweep can mean.
    """

    codecs: Codecs
    dataset: str | Path | Dataset
    _: KW_ONLY
    metrics: Sequence[str] | None = None
    points: Sequence[float] | None = None
    results: str | Path = "results"
    jobs: int = 1
    rerun: Rerun = "missing"
    device: str = "cpu"
    progress: bool = True
    limit: int | None = None
    small_sets: bool = False
    executor: Executor = "local"
    address: str | None = None
    per_job: Mapping[str, float] | None = None
    timeout_s: float = TIMEOUT_S

    def __post_init__(self) -> None:
        check_arguments(self.jobs, self.rerun, self.limit, self.points, self.timeout_s)
        if self.executor not in get_args(Executor):
            raise HvqbenchError(f"executor is {self.executor!r}; it must be one of {', '.join(get_args(Executor))}")
        if self.executor == "local" and (self.address or self.per_job):
            raise HvqbenchError("address and per-job are of a Ray cluster: add --executor ray, or leave them out")


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
