"""A worker process of :mod:`~hvqbench.bench.worker`, started when it is needed and replaced when it dies."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from hvqbench.bench.task import WorkerError
from hvqbench.lineage import VARIABLE, end, new_line
from hvqbench.watchman import start_watchman

TIMEOUT_S = 4 * 3600.0
"""How long an answer may take: generous, since a reference encoder takes minutes for a picture, but not for ever."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def threads_per_process(jobs: int) -> int:
    """Threads for each worker: within a team they work in turn, so a team has its share of the cores to itself.

    ``OMP_NUM_THREADS`` overrides it.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(asked) if asked.isdigit() and int(asked) else max(1, cores // jobs)


class Process:
    """A worker process, started when it is first called and again when it has died.

    Parameters
    ----------
    role
        What messages call it: ``encoder``, ``decoder``, ``judge``, ``describer`` or ``meter``, or that of *handler*.
    quiet
        Whether what it prints is kept for the message about its death, and not shown.
    timeout_s
        How long it may take for an answer; None for ever.
    handler
        The class that answers, as ``module:Class``; by default that of :mod:`hvqbench.bench.worker` for *role*.
    """

    def __init__(
        self,
        role: str,
        threads: int,
        quiet: bool = True,
        timeout_s: float | None = TIMEOUT_S,
        handler: str | None = None,
    ) -> None:
        self.role = role
        self._handler = handler or f"hvqbench.bench.worker:{role.capitalize()}"
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
            raise WorkerError(self._forget(running)) from None
        finally:
            alarm.cancel()
        if running.expired:  # with the answer on its way: the process is gone all the same
            raise WorkerError(self._forget(running))
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
                self._running = _Running(self._handler, self._threads, self._quiet)
            return self._running

    def _forget(self, running: _Running) -> str:
        """Forget a process that has died, and say what it died of."""
        with self._lock:
            if self._running is running:
                self._running = None
        if running.expired:
            running.end()
            return f"{self.role}: no answer after {self._timeout_s:g} s, so it was ended; --timeout gives more time"
        return f"the {self.role} process {running.cause_of_death()}"


class _Running:
    """A worker process that runs.

    What tells its end is a thread that waits for it, and not the end of its answers: a child that it forked may hold
    that pipe for ever. The thread kills such children.
    """

    def __init__(self, handler: str, threads: int, quiet: bool) -> None:
        self.line = new_line()
        self.expired = False
        self._stopped = False
        self._log: Any = tempfile.TemporaryFile() if quiet else None  # noqa: SIM115 - lives as long as the process
        # The caller's import path, and -P so that a file in the working directory hides no library.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), VARIABLE: self.line}
        environment |= dict.fromkeys(THREAD_VARIABLES, str(threads))
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-c", f"from hvqbench.bench.worker import main; main({handler!r})"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for the parent, which then ends the workers
        )
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()

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
        self._waiter.join()
        for pipe in (self.process.stdin, self.process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]

    def cause_of_death(self) -> str:
        """What it died of, or did instead of answering."""
        self._waiter.join(5)  # its pipe closes a moment before it is gone
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
