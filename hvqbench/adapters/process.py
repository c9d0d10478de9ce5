"""Runs programs without a shell; a program ends with the call, and so does all that it started."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hvqbench.lineage import VARIABLE, end, end_adopted, new_line
from hvqbench.watchman import start_watchman


@contextmanager
def program(arguments: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A running program; when the block ends, in whatever way, it is killed with all that it started.

    Parameters
    ----------
    options
        Those of :class:`subprocess.Popen`.
    """
    start_watchman()
    line = new_line()
    environment = os.environ | {VARIABLE: line}
    process = subprocess.Popen(arguments, env=environment, start_new_session=True, **options)
    try:
        yield process
    except BaseException:
        _end_group(process)
        end(line)
        raise
    _end_group(process)
    end_adopted(line)


def run_program(arguments: Sequence[str], folder: str | Path, log: Path, timeout: float) -> tuple[int, str]:
    """Exit status, and the last 4000 bytes of all that the program printed.

    Parameters
    ----------
    arguments
        The program and its arguments, as they are.
    folder
        Where it runs.
    log
        The file that takes what it prints: a pipe would have to be emptied meanwhile, and what the program leaves
        behind could hold it open.
    timeout
        Seconds; after them the program is killed, and so is all that it started.

    Raises
    ------
    subprocess.TimeoutExpired, OSError
    """
    with (
        log.open("wb") as out,
        program(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder) as process,
    ):
        _wait(process, timeout)
    with log.open("rb") as said:
        said.seek(max(0, log.stat().st_size - 4000))
        return process.wait(), said.read().decode(errors="replace").strip()


def _wait(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Wait for the end, but do not reap: until then no other process can have its id, or its group's."""
    try:
        handle = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # no Linux, or an old one
        process.wait(timeout)
        return
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        if not poll.poll(1000 * timeout):
            raise subprocess.TimeoutExpired(process.args, timeout)
    finally:
        os.close(handle)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
