"""What all trainers share: configuration, precision, learning rate, checkpoints, progress, weight averaging."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hvqbench.catalog import read_toml
from hvqbench.errors import HvqbenchError
from hvqbench.settings import read_settings
from hvqbench.training import processes

T = TypeVar("T")


def read_config(kind: type[T], path: Path, overrides: dict[str, Any] | None = None) -> T:
    """A ``train.toml`` as the frozen dataclass *kind*, checked as :func:`hvqbench.settings.read_settings` does."""
    return read_settings(kind, read_toml(path) | (overrides or {}), str(path))


def autocast_dtype(device: str) -> torch.dtype | None:
    """bfloat16 where the hardware multiplies it fast (CUDA; CPUs with AVX-512 bf16 or AMX), else None (float32)."""
    if device.startswith("cuda"):
        return torch.bfloat16
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return torch.bfloat16 if supported() else None


def autocast(device: str) -> torch.autocast:
    """Mixed precision on *device*, or a no-op where bfloat16 would be slower."""
    dtype = autocast_dtype(device)
    return torch.autocast(device.split(":")[0], dtype=dtype or torch.bfloat16, enabled=dtype is not None)


def cosine(step: int, steps: int, warmup: int = 200, floor: float = 0.03) -> float:
    """Learning-rate factor: linear warm-up, then a cosine from 1 down to *floor*."""
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, steps - warmup))))


class Average:
    """Exponential moving average of a module's parameters (not of its buffers, which are copied)."""

    def __init__(self, module: nn.Module, decay: float = 0.998) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {name: t.detach().clone() for name, t in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        parameters = {name for name, _ in module.named_parameters()}
        for name, tensor in module.state_dict().items():
            self.state[name].lerp_(tensor, 1 - decay) if name in parameters else self.state[name].copy_(tensor)


class Run:
    """One training run in folder *out*: its checkpoint, its log (``log.jsonl``) and its progress line.

    Of several processes, all read the checkpoint and the main one alone writes.

    ``state`` must be a dictionary of tensors, numbers, strings and plain containers of them, so that a checkpoint can
    be read without unpickling code.
    """

    def __init__(self, out: Path, steps: int, checkpoint_every: float = 120.0) -> None:
        self.out, self.steps, self.checkpoint_every = out, steps, checkpoint_every
        self.seconds = 0.0
        self.started_at = 0
        out.mkdir(parents=True, exist_ok=True)

    @property
    def checkpoint(self) -> Path:
        return self.out / "checkpoint.pt"

    def restore(self) -> dict[str, Any] | None:
        """The last checkpoint, or None for a fresh start."""
        if not self.checkpoint.exists():
            return None
        try:
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:
            raise HvqbenchError(f"cannot read {self.checkpoint}: {error}; delete it to start afresh") from None
        self.started_at, self.seconds = state["step"], state["seconds"]
        return state

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint after *step* steps; a crash while writing leaves the last one intact."""
        partial = self.checkpoint.with_suffix(".partial")
        torch.save({**state, "step": step, "seconds": self.seconds}, partial)
        os.replace(partial, self.checkpoint)

    def log(self, **values: float | int | str) -> None:
        """Append one line to ``log.jsonl``."""
        if not processes.is_main():
            return
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in values.items()}) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """All lines of the log."""
        path = self.out / "log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def each_step(self, state_of: Any, description: str) -> Iterator[int]:
        """Step numbers from where the run stands; saves ``state_of()`` now and then, at the end, and on Ctrl-C."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        saved, step = time.monotonic(), self.started_at
        with Progress(*columns, console=processes.console(), refresh_per_second=1) as progress:
            bar = progress.add_task(description, total=self.steps, completed=step)
            try:
                while step < self.steps:
                    start = time.monotonic()
                    yield step
                    step += 1
                    self.seconds += time.monotonic() - start
                    progress.update(bar, completed=step)
                    if processes.is_main() and time.monotonic() - saved > self.checkpoint_every:
                        self.save(step, state_of())
                        saved = time.monotonic()
            finally:
                if processes.is_main():
                    self.save(step, state_of())


def mean_of(values: list[Tensor]) -> float:
    """Mean of scalar tensors as a float."""
    return float(torch.stack([v.detach().float() for v in values]).mean())
