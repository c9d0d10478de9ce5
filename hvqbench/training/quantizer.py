"""A codebook in training: k-means start, exponential moving averages, revival of dead codewords.

VQ-VAE's EMA update (arXiv 1711.00937, appendix A.1); the start and the revival follow common practice (SoundStream,
arXiv 2107.03312).
"""

from __future__ import annotations

import torch
from torch import Tensor

from hvqbench.training import processes
from hvqbench.vq.distance import nearest, squared_distances


class CodebookTrainer:
    """Owns the running statistics of a codebook (K×D) that it updates in place.

    Of several processes each sees its own latents; their statistics, and so their codebooks, are the same.
    """

    def __init__(self, codebook: Tensor, decay: float) -> None:
        self.codebook, self.decay = codebook, decay
        self.counts = codebook.new_zeros(len(codebook))
        self.sums = torch.zeros_like(codebook)

    def state(self) -> dict[str, Tensor]:
        return {"counts": self.counts, "sums": self.sums}

    @torch.no_grad()
    def restore(self, state: dict[str, Tensor]) -> None:
        self.counts.copy_(state["counts"])
        self.sums.copy_(state["sums"])

    @torch.no_grad()
    def adopt(self, per_batch: float) -> None:
        """Go on with the entries that the codebook has, all as frequent as the others, *per_batch* latents in all."""
        self.counts.fill_(per_batch / len(self.codebook))
        self.sums.copy_(self.codebook * self.counts[:, None])

    @torch.no_grad()
    def start(self, data: Tensor, per_batch: float, iterations: int = 15) -> None:
        """Lloyd's k-means over latents N×D, from random ones of them; a training batch holds *per_batch* latents."""
        data, generator = processes.gather(data), torch.Generator().manual_seed(0)
        size = len(self.codebook)
        chosen = torch.randint(len(data), (size,), generator=generator)
        jitter = 1e-3 * torch.randn(size, data.shape[1], generator=generator)
        self.codebook.copy_(data[chosen] + jitter.to(data.device))
        for _ in range(iterations):
            assigned = nearest(data, self.codebook)
            counts, sums = _statistics(assigned, data, size)
            used = counts > 0
            self.codebook[used] = sums[used] / counts[used, None]
            empty = int((~used).sum())
            if empty:
                self.codebook[~used] = data[torch.randint(len(data), (empty,), generator=generator)]
        # Counts are kept at the scale of one batch, as the moving average will see them.
        counts, _ = _statistics(nearest(data, self.codebook), data, size)
        self.counts.copy_((counts / counts.sum() * per_batch).clamp_min(1e-3))
        self.sums.copy_(self.codebook * self.counts[:, None])
        processes.share(self.codebook, self.counts, self.sums)

    @torch.no_grad()
    def update(self, latents: Tensor, indices: Tensor) -> None:
        """One EMA step with latents N×D that were assigned *indices* N."""
        counts, sums = _statistics(indices, latents.float(), len(self.codebook))
        processes.add_up([counts, sums])
        self.counts.lerp_(counts, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        self.codebook.copy_(self.sums / self.counts.clamp_min(1e-4)[:, None])

    @torch.no_grad()
    def revive(self, latents: Tensor, threshold: float = 0.05) -> int:
        """Move codewords used less than *threshold* times the mean to latents that are far from every codeword."""
        mean = self.counts.mean()
        dead = (self.counts < threshold * mean).nonzero().flatten()[: len(latents) // 4]
        if len(dead):
            latents = latents.float()
            misfit = latents.square().sum(1) + squared_distances(latents, self.codebook).min(1).values
            chosen = torch.multinomial(misfit.clamp_min(1e-9), len(dead))
            self.codebook[dead] = latents[chosen]
            self.counts[dead] = 0.3 * mean
            self.sums[dead] = self.codebook[dead] * self.counts[dead, None]
        processes.share(self.codebook, self.counts, self.sums)
        return len(dead)


def _statistics(indices: Tensor, latents: Tensor, size: int) -> tuple[Tensor, Tensor]:
    counts = torch.bincount(indices, minlength=size).float()
    sums = latents.new_zeros(size, latents.shape[1]).index_add_(0, indices, latents)
    return counts, sums
