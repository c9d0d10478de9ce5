"""What trained models give on a data set: ideal bits of the indices, and the quality of the reconstructions.

Ideal bits are those of the floating-point model. No byte is coded, so this serves models that no coder has, like the
free K-way head; a codec's own files differ by its integer grids (``hvqbench run``, ``hvqbench inspect``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hvqbench.training.photos import to_tensor
from hvqbench.vq.inspect import grid_counts, nearest_indices
from hvqbench.vq.layout import ABSENT
from hvqbench.vq.models.static import static_bits

if TYPE_CHECKING:
    from hvqbench.data import ImageFile
    from hvqbench.vq.base import BaseTokenizer

QUALITY = ("psnr", "lpips-alex", "dists")


class Predictor(Protocol):
    """What predicts indices: the float networks of an index model."""

    def eval(self) -> Any: ...

    def bits(self, maps: Sequence[Tensor], codebooks: Sequence[Tensor]) -> Mapping[str, Any]:
        """Code length of maps (B×h×w): ``z`` in all, and ``indices``, bits of each for each grid."""


@dataclass(frozen=True)
class IdealBits:
    """Mean bits per image: of fixed length, of static frequencies, and of a model's indices and z (0 without one)."""

    fixed: float
    static: float
    indices: float
    z: float

    @property
    def static_saving(self) -> float:
        """Percent of fixed length that static frequencies save."""
        return 100 * (1 - self.static / self.fixed)

    @property
    def saving(self) -> float:
        """Percent of fixed length that the model saves, its z included."""
        return 100 * (1 - (self.indices + self.z) / self.fixed)


def present(maps: Sequence[Tensor]) -> list[int]:
    """How many symbols each of *maps* has."""
    return [int((symbols != ABSENT).sum()) for symbols in maps]


def fixed_bits(maps: Sequence[Tensor], codebooks: Sequence[Tensor]) -> float:
    """Bits of all symbols of *maps* at fixed length."""
    return sum(count * math.log2(len(book)) for count, book in zip(present(maps), codebooks, strict=True))


@torch.inference_mode()
def ideal_bits(
    tokenizer: BaseTokenizer, model: Predictor, counts: Sequence[Tensor], images: Sequence[ImageFile]
) -> IdealBits:
    """Bits of *images* under *model*, and under the static frequencies of *counts* (K for each grid)."""
    model.eval()  # z is rounded
    rows = []
    for file in images:
        _, maps = nearest_indices(tokenizer, to_tensor(file.read()[None]))
        bits = model.bits(maps, list(tokenizer.codebooks))
        fixed = fixed_bits(maps, list(tokenizer.codebooks))
        static, own = (sum(float(c.sum()) for c in costs) for costs in (static_bits(counts, maps), bits["indices"]))
        rows.append([fixed, static, own, float(bits["z"])])
    return IdealBits(*np.mean(rows, 0).tolist())


@torch.inference_mode()
def reconstruction(tokenizer: BaseTokenizer, images: Sequence[ImageFile]) -> tuple[dict[str, float], list[Tensor]]:
    """Mean of each of :data:`QUALITY` over the reconstructions of *images*, and each grid's counts of codewords (K)."""
    from hvqbench.metrics import load_metric

    metrics = [load_metric(name) for name in QUALITY]
    codewords = [len(codebook) for codebook in tokenizer.codebooks]
    counts = [torch.zeros(size, dtype=torch.int64) for size in codewords]
    scores = []
    for file in images:
        image = file.read()
        _, maps = nearest_indices(tokenizer, to_tensor(image[None]))
        counts = [total + own for total, own in zip(counts, grid_counts(maps, codewords), strict=True)]
        output = ((tokenizer.decode(maps)[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        pixels = output.permute(1, 2, 0)[: image.shape[0], : image.shape[1]].contiguous().numpy()
        scores.append([metric(image, pixels) for metric in metrics])
    return dict(zip(QUALITY, np.mean(scores, 0).tolist(), strict=True)), counts
