"""Indices of random crops, made once: what index models train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvqbench.files import atomic_path
from hvqbench.training import processes
from hvqbench.training.loop import autocast
from hvqbench.training.photos import Photos
from hvqbench.vq.base import BaseTokenizer


def cached_crops(
    tokenizer: BaseTokenizer, data: Path, folder: Path, device: str, *, crops: int, crop: int, batch: int, seed: int
) -> tuple[list[Tensor], Path]:
    """The maps (int32, N×h×w for each grid) of *crops* random crops of side *crop*, and their file in *folder*.

    They depend on *batch* and *seed* too; a resumed run and other runs on the same tokenizer see the same.
    """
    file = folder / f"indices-{tokenizer.digest[:12]}-{crops}x{crop}-{batch}-{seed}.pt"
    if processes.is_main() and not file.exists():
        _encode(tokenizer, Photos(data, crop), file, device, crops, batch, seed)
    processes.wait()
    return torch.load(file, weights_only=True), file


def held_out(crops: int) -> int:
    """How many of them, the last, judge and do not train: 5 %, at most 100."""
    return min(100, max(1, crops // 20))


@torch.inference_mode()
def _encode(
    tokenizer: BaseTokenizer, photos: Photos, file: Path, device: str, crops: int, batch: int, seed: int
) -> None:
    from rich.progress import track

    rng = np.random.default_rng(seed)
    parts = []
    for start in track(range(0, crops, batch), "crops", console=processes.console()):
        with autocast(device):
            features = tokenizer.encode(photos.batch(min(batch, crops - start), rng).to(device))
        parts.append([symbols.int().cpu() for symbols in tokenizer.quantize(features)])
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        torch.save([torch.cat(grid) for grid in zip(*parts, strict=True)], temporary)
