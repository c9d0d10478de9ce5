"""How much there is to compute: parameters, multiply-accumulates, and the time that a GPU is at work.

Counted from outside, of whatever torch does in a call, so that a codec has nothing to declare. What does not go
through torch (a range coder, a classic codec) has no count.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

NONE = float("nan")


def count_work(call: Callable[[], object], device: str = "cpu") -> dict[str, float]:
    """Run *call*, and say what torch did in it.

    Returns
    -------
    dict
        ``macs``: multiply-accumulates of matrix products and convolutions (``torch.utils.flop_counter``; half of its
        floating-point operations); NaN where there is no torch. ``gpu_busy_s``: seconds in which kernels ran, added up;
        NaN on the CPU.
    """
    torch: Any = sys.modules.get("torch")  # never imported for this: a classic codec runs without it
    if torch is None:
        call()
        return {"macs": NONE, "gpu_busy_s": NONE}
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return {"macs": counter.get_total_flops() / 2, "gpu_busy_s": _gpu_busy(call, torch, device)}


def count_parameters() -> float:
    """The numbers in the parameters of all networks that this process holds; NaN where there is no torch."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return NONE
    # By type: isinstance would ask lazy objects what they are.
    modules = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.nn.Module)]
    own = {id(parameter): parameter.numel() for module in modules for parameter in module.parameters(recurse=False)}
    return float(sum(own.values()))


def _gpu_busy(call: Callable[[], object], torch: Any, device: str) -> float:
    if not device.startswith("cuda"):
        return NONE
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize(device)
    return float(sum(event.self_device_time_total for event in profiler.key_averages())) / 1e6
