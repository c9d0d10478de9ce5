"""A time limit for a call in this process, which cannot be killed without the whole."""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hvqbench.errors import HvqbenchError

GRACE_S = 10.0
"""How long code may take to notice that it was interrupted."""


@contextmanager
def time_limit(seconds: float, what: str) -> Iterator[None]:
    """Interrupt the block after *seconds*.

    Code that does not heed that (a loop in a library of C, say) ends the process, with the place where it hangs, and
    without cleaning up: that is for a watchman. There is no limit outside the main thread, where nothing can be
    interrupted.

    Raises
    ------
    HvqbenchError
        The time is over; *what* took it.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise HvqbenchError(f"{what} took more than {seconds:g} s; --timeout gives more time")

    before = signal.signal(signal.SIGALRM, interrupt)
    remaining = signal.setitimer(signal.ITIMER_REAL, seconds)
    # The only clock that needs neither the interpreter's lock nor a Python handler.
    faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True, file=sys.__stderr__ or 2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, *remaining)
        signal.signal(signal.SIGALRM, before)
