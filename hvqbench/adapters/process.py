"""Runs a program without a shell, with a time limit that also holds for what the program starts itself."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path


def run_program(arguments: Sequence[str], folder: str | Path, log: Path, timeout: float) -> tuple[int, str]:
    """Exit status, and the last 4000 bytes of all that the program printed.

    Parameters
    ----------
    arguments
        The program and its arguments, as they are.
    folder
        Where it runs.
    log
        The file that takes what it prints: a pipe would have to be emptied meanwhile.
    timeout
        Seconds; after them the program is killed, and so is all that it started.

    Raises
    ------
    subprocess.TimeoutExpired, OSError
    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder, start_new_session=True
        )
    try:
        status = process.wait(timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    with log.open("rb") as said:
        said.seek(max(0, log.stat().st_size - 4000))
        return status, said.read().decode(errors="replace").strip()
