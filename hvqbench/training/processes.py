"""Data-parallel training: what the processes that ``accelerate launch`` started exchange.

Each process draws crops of its own. At every step gradients are averaged and codebook statistics added up over all
processes, so that n of them learn what one would learn from batches n times as large. The main process alone writes
files and shows progress. With a single process every function here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import timedelta

import torch
from rich.console import Console
from torch import Tensor, distributed

from hvqbench.errors import HvqbenchError

# The others wait for the main process while it encodes all crops of an index model.
PATIENCE = timedelta(hours=12)


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Number of this process among all, from 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return rank() == 0


def console() -> Console:
    """Standard error for progress, silent in all but the main process."""
    return Console(stderr=True, quiet=not is_main())


def join(device: str) -> str:
    """Meet the other processes, if there are any; returns the device of this one: of ``cuda``, a GPU of its own."""
    if count() == 1:
        return device
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise HvqbenchError(f"training in several processes: {error}; pip install 'hvqbench[train]'") from None
    return str(PartialState(cpu=device == "cpu", timeout=PATIENCE).device)


def add_up(tensors: Iterable[Tensor], weight: float = 1.0) -> None:
    """Replace each tensor by *weight* times its sum over all processes, in one exchange."""
    tensors = list(tensors)
    if not (_met() and tensors):
        return
    flat = torch.cat([tensor.float().flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    for tensor, total in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(total.view_as(tensor)).mul_(weight)


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace the gradients of *parameters*, those that have one, by their means over all processes."""
    add_up((parameter.grad for parameter in parameters if parameter.grad is not None), 1 / count())


def gather(tensor: Tensor) -> Tensor:
    """The tensors of all processes, of one shape, joined along the first axis."""
    if not _met():
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def share(*tensors: Tensor) -> None:
    """Overwrite *tensors* with those of the main process."""
    if _met():
        for tensor in tensors:
            distributed.broadcast(tensor, 0)


def wait() -> None:
    """Go on when all processes have come here."""
    if _met():
        distributed.barrier()


def _met() -> bool:
    return distributed.is_available() and distributed.is_initialized()
