"""Ctrl-C, a closed terminal and ``kill``: the first ends the command in order, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupts:
    """What came: ``status`` is the exit status that it stands for, 130 for Ctrl-C."""

    def __init__(self) -> None:
        self.status = 128 + signal.SIGINT
        self._came = False

    def handle(self, number: int, _: FrameType | None) -> None:
        status = 128 + number
        if self._came:
            os._exit(status)  # what is left is the watchman's
        self._came, self.status = True, status
        raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Within the block each of these signals raises :class:`KeyboardInterrupt` once, in the main thread.

    One that is ignored (a job in the background, ``nohup``) stays so.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heard = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in heard:
        signal.signal(number, interrupts.handle)
    try:
        yield interrupts
    finally:
        for number in heard:
            signal.signal(number, before[number])
