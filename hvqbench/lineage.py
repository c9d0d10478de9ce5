"""Who started whom, so that nothing that hvqbench started outlives it.

A process group does not hold a program that opens a session of its own, and a parent-death signal is neither inherited
nor of use where the parent's thread may end first. The environment is inherited through forks, execs and sessions, so
every process that hvqbench starts carries its *line* there (as builds do under Jenkins):

    OWNER                  what is started by the hvqbench that a user started
    OWNER/3                its third worker
    OWNER/3/WORKER/12      the twelfth program that this worker started

``OWNER`` and ``WORKER`` are identities: machine, process id and time of start. They also stand in the names of
temporary folders (:mod:`hvqbench.scratch`), so that the next run can tell what a dead one left.
"""

from __future__ import annotations

import functools
import itertools
import os
import platform
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

VARIABLE = "HVQBENCH_LINE"
PATIENCE_S = 5.0
"""How long to kill what goes on forking."""

_numbers = itertools.count(1)


def line() -> str:
    """The line of this process: of all that it starts, it is the beginning."""
    return _line(os.getpid())


def new_line() -> str:
    """A line for the next process that this one starts."""
    return f"{line()}/{next(_numbers)}"


def carry_line() -> None:
    """Let all that this process starts carry its line, adapters' own programs included; not for callers' processes."""
    os.environ[VARIABLE] = line()


def own_identity() -> str:
    return _identity(os.getpid())


def is_dead(identity: str) -> bool:
    """Whether the process of that identity, if it is of this machine, is gone."""
    machine, _, rest = identity.partition("-")
    pid, _, start = rest.partition("-")
    return machine == _machine() and pid.isdigit() and _start(int(pid)) != start


def is_dead_line(own: str) -> bool:
    """Whether one of those who stand in a line is gone."""
    return any(is_dead(part) for part in own.split("/"))


def end(*lines: str) -> None:
    """Kill all processes of these lines, and what they started in turn."""
    if lines:
        _end(lambda own: any(own == line or own.startswith(f"{line}/") for line in lines))


def end_orphans() -> None:
    """Kill what a run that is dead has left on this machine."""
    _end(is_dead_line)


def adopt_orphans() -> None:
    """Become the parent of all orphans below this process, for :func:`end_adopted` (Linux).

    For processes that are hvqbench's own alone: a caller of the library may not expect children that it did not start.
    """
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, see prctl(2)


def end_adopted(own: str) -> None:
    """Kill this process's children of a line: what a program left in sessions of their own.

    Cheap, since it is done within what is timed: other processes are not looked at.
    """
    wanted = f"{VARIABLE}={own}".encode()
    while found := [pid for pid in _children() if wanted in _environment(pid)]:
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _end(chosen: Callable[[str], bool]) -> None:
    deadline = monotonic() + PATIENCE_S
    while (found := _living(chosen)) and monotonic() < deadline:
        for process in found:
            with suppress(OSError, *_psutil_errors()):
                process.kill()
        sleep(0.005)  # they are not waited for: whose children they are wants their exit status


def _living(chosen: Callable[[str], bool]) -> list[psutil.Process]:
    """The processes of the chosen lines and their descendants, without this one."""
    import psutil

    processes, parents, found = {}, {}, set()
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            processes[pid], parents[pid] = process, process.ppid()
            own = process.environ().get(VARIABLE, "")
            if own and chosen(own):
                found.add(pid)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:  # an environment can be cleared
        found |= more
    return [processes[pid] for pid in found - {os.getpid()}]


def _psutil_errors() -> tuple[type[Exception], ...]:
    import psutil

    return (psutil.Error,)


def _children() -> Iterator[int]:
    with suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            yield from map(int, Path(f"/proc/self/task/{task}/children").read_text().split())


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


@functools.cache  # by process: a fork is another one
def _line(pid: int) -> str:
    return "/".join(filter(None, [os.environ.get(VARIABLE), _identity(pid)]))


def _identity(pid: int) -> str:
    return f"{_machine()}-{pid}-{_start(pid)}"


def _start(pid: int) -> str:
    """When a process was started, in whatever unit; empty if there is none."""
    try:
        # Ticks since boot, and not psutil's time of day, which moves when the clock is set.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return ""
    import psutil

    try:
        return f"{psutil.Process(pid).create_time():.2f}"
    except psutil.Error:
        return ""


@functools.cache
def _machine() -> str:
    """This machine since it was booted, and the container on it: process ids mean nothing elsewhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
        return f"{boot}{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:
        return "".join(filter(str.isalnum, platform.node())) or "here"
