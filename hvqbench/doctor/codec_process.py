"""A process for a codec: it may crash or hang, and the examiner goes on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from hvqbench.bench.process import Process, threads_per_process
from hvqbench.bench.task import WorkerError
from hvqbench.doctor.checks import CHECKS
from hvqbench.doctor.subject import Failed, Finding

LOOK_S = 0.1
"""How often the examiner looks whether a codec still moves."""


class CodecProcess:
    """A process that holds one codec, replaced when it dies; see :class:`~hvqbench.doctor.check_runner.CheckRunner`.

    Parameters
    ----------
    timeout_s
        Seconds that one step, an encode or a decode, may take.
    notes
        A file, in which the process notes each step before it takes it.
    """

    def __init__(self, source: str, device: str, timeout_s: float, notes: Path) -> None:
        self._asked = source, device, notes
        self._timeout_s, self._notes = timeout_s, notes
        self._process = _start()
        self._hangs = False

    def ask(self, question: str, *arguments: Any) -> Any:
        """The process's answer; raises :class:`Failed` with the step at which it raised, died or hung."""
        self._notes.write_text("", encoding="utf-8")
        answered = threading.Event()
        guard = threading.Thread(target=self._guard, args=(answered,), daemon=True)
        guard.start()
        try:
            return self._process.call(question, *self._asked, *arguments)
        except WorkerError as error:
            what = f"{self._notes.read_text(encoding='utf-8') or 'loading the codec'}: "
            if not self._hangs:
                raise Failed(what + str(error).removeprefix("codec: ")) from None
        finally:
            answered.set()
            guard.join()
        self._process, self._hangs = _start(), False
        raise Failed(f"{what}no answer after {self._timeout_s:g} s", "let it end; --timeout gives more time") from None

    def check(self, name: str) -> Finding:
        """Make one of :data:`CHECKS`; a process that dies has failed it."""
        try:
            finding: Finding = self.ask(name)
        except Failed as failure:
            return Finding(name, "failed", str(failure), failure.remedy or CHECKS[name][1])
        return finding

    def close(self) -> None:
        self._process.close()

    def _guard(self, answered: threading.Event) -> None:
        process, seen, waited = self._process, 0, 0.0
        while not answered.wait(LOOK_S):
            # Counted in looks and not by the clock: a machine that sleeps is no codec that hangs.
            noted = self._notes.stat().st_mtime_ns
            waited = waited + LOOK_S if noted == seen else 0.0
            seen = noted
            if waited > self._timeout_s:
                self._hangs = True
                process.close()
                return


def _start() -> Process:
    return Process("codec", threads_per_process(1), timeout_s=None, handler="hvqbench.doctor.check_runner:CheckRunner")
