"""The machine that times are taken on: what it is, what else it is doing, and how much memory a call needs."""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

BUSY_SHARE = 0.1
"""Of the machine's cores: when other processes use more, times are no speed."""
BUSY_LOAD = 0.5
"""A load average below this is nobody's: it looks back a minute, in which the command itself started."""


def machine_facts(device: str) -> dict[str, Any]:
    """What a time depends on besides the code.

    Returns
    -------
    dict
        ``cpu``: the model; ``governor``: of its clock, "unknown" where the system does not tell (virtual machines);
        ``cores``: those that this process may use; ``threads``: torch's, or else what ``OMP_NUM_THREADS`` says;
        ``device_name``: the GPU's, empty on the CPU.
    """
    from hvqbench.bench.process import threads_per_process

    torch = sys.modules.get("torch")  # never imported for this: a classic codec runs without it
    return {
        "cpu": _cpu_model(),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "threads": torch.get_num_threads() if torch else threads_per_process(1),
        "device_name": torch.cuda.get_device_name(device) if torch and device.startswith("cuda") else "",
    }


def is_busy(load_average: float, others_cores: float = 0.0) -> bool:
    """Whether others are working: by the load average at the start, or by the cores that they kept busy meanwhile."""
    allowed = BUSY_SHARE * (os.cpu_count() or 1)
    return load_average > max(BUSY_LOAD, allowed) or others_cores > allowed


class OtherWork:
    """How many cores all other processes keep busy, counted from when this is made."""

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float:
        """The mean number of cores."""
        (start, before), (now, after) = self._start, self._now()
        return max(0.0, (after - before) / (now - start)) if now > start else math.nan

    @staticmethod
    def _now() -> tuple[float, float]:
        """Wall time, and CPU time of others, in seconds."""
        import psutil

        spent = psutil.cpu_times()._asdict()
        # The time of guests is in that of users already, and to wait for a disk is no work.
        busy = sum(seconds for kind, seconds in spent.items() if kind not in ("idle", "iowait", "guest", "guest_nice"))
        return perf_counter(), busy - cpu_seconds()


def cpu_seconds() -> float:
    """CPU time of this process, all its threads, and the child processes that have ended; user and system."""
    import resource

    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return process_time() + children.ru_utime + children.ru_stime


def peak_memory(call: Callable[[], object], device: str = "cpu") -> dict[str, float]:
    """Run *call*, and say how much memory there was at its highest.

    ``memory`` is the peak of this process's resident memory in bytes: interpreter, libraries, weights and working
    memory. The kernel keeps the peak itself (``VmHWM``), so nothing is sampled, and it is reset before the call.
    (``ru_maxrss`` will not do: it is never reset, and a child inherits its parent's.) To it is added the highest peak
    of a child process that the codec starts, which is looked at every 2 ms. NaN where the system does not tell.
    ``gpu_memory`` is the peak that torch's allocator had handed out, weights included; NaN on the CPU.
    """
    import psutil

    torch: Any = sys.modules.get("torch")
    on_gpu = torch is not None and device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    gc.collect()
    with suppress(AttributeError):  # not every C library can
        psutil.heap_trim()  # what an earlier call freed and was kept would hide what the next one needs
    resettable = _reset_peak()
    children = _ChildWatch()
    try:
        call()
    finally:
        child_peak = children.stop()
    own = _peak_of("self") if resettable else None
    return {
        "memory": math.nan if own is None else own + child_peak,
        "gpu_memory": torch.cuda.max_memory_allocated(device) if on_gpu else math.nan,
    }


class _ChildWatch:
    """The highest peak of a direct child process, by a thread that looks every 2 ms."""

    def __init__(self) -> None:
        from threading import Event, Thread

        self._peak = 0
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            for listed in Path("/proc/self/task").glob("*/children"):  # each thread has its own; none elsewhere
                with suppress(OSError):
                    self._peak = max(self._peak, *(_peak_of(child) or 0 for child in listed.read_text().split()), 0)


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # see proc(5)
    except OSError:
        return False
    return True


def _peak_of(process: str) -> int | None:
    """The peak resident memory of a process in bytes; None if it is gone or the system does not tell."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _cpu_model() -> str:
    import platform

    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            return lines.readline().strip()
    except OSError:
        return ""
