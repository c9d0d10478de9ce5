"""A process that outlives the one that started it, and ends what that has left: however it ends, even by SIGKILL.

It costs one idle interpreter. It waits for nothing but the end of its owner; then it kills all processes of the owner's
line (:mod:`hvqbench.lineage`) and removes their temporary folders. When it starts it does the same for runs that are
dead and whose watchman was killed as well.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from time import sleep

from hvqbench.lineage import VARIABLE, end, end_orphans, is_dead, line, own_identity
from hvqbench.scratch import remove_orphaned_folders

_watched: dict[int, subprocess.Popen[bytes] | None] = {}


def start_watchman() -> None:
    """Have this process watched, unless it is already."""
    if os.getpid() in _watched:
        return
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop(VARIABLE, None)  # not to be ended with what it ends
    _watched[os.getpid()] = subprocess.Popen(
        [sys.executable, "-P", "-c", "from hvqbench.watchman import main; main()", own_identity(), line()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )


def watched_by_parent() -> None:
    """Say that this process belongs to one that has a watchman."""
    _watched[os.getpid()] = None


def main() -> None:
    """Watch over the process whose identity and line are the arguments."""
    owner, own_line = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end_orphans()
    remove_orphaned_folders()
    _wait(owner)
    end(own_line)
    remove_orphaned_folders()


def _wait(owner: str) -> None:
    pid = int(owner.split("-")[1])
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):  # no Linux, an old one, or it is gone already
        while not is_dead(owner):
            sleep(0.5)
        return
    if not is_dead(owner):  # else the process of that id is another one
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
