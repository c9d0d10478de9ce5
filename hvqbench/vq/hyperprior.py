"""The hyperprior's networks: H-analysis y -> z, a factorised prior of z, and H-synthesis z -> (mu, log 1/sigma^2).

z has a quarter of the latent's resolution and few channels, because every one of its bits must pay for itself. Its
prior is a discretised logistic per channel. H-synthesis is built of convolutions, ReLUs and pixel shuffles only, so
that :mod:`hvqbench.vq.integer` can evaluate it exactly in integers.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from hvqbench.vq.pee import anchor_logits
from hvqbench.vq.weights import load_weights, save_weights

Z_LIMIT = 31
"""z is clamped to [-Z_LIMIT, Z_LIMIT]."""
LOG_PRECISION_LIMITS = (-6.0, 5.0)
MEAN_LIMIT = 16.0


@dataclass(frozen=True)
class HyperpriorConfig:
    """Shape of a hyperprior for a latent of ``dim`` channels and ``codewords`` anchors."""

    dim: int = 16
    codewords: int = 1024
    width: int = 128
    z_channels: int = 6


class Hyperprior(nn.Module):
    """Float networks of one hyperprior; ``bias`` holds b_k."""

    def __init__(self, config: HyperpriorConfig) -> None:
        super().__init__()
        self.config = config
        width, dim = config.width, config.dim
        self.analysis = nn.Sequential(
            nn.Conv2d(dim, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, config.z_channels, 3, padding=1),
        )
        self.synthesis = nn.Sequential(
            nn.Conv2d(config.z_channels, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1),
            nn.PixelShuffle(2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1),
            nn.PixelShuffle(2),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * dim, 3, padding=1),
        )
        self.z_mean = nn.Parameter(torch.zeros(config.z_channels))
        self.z_log_scale = nn.Parameter(torch.full((config.z_channels,), -0.5))
        self.bias = nn.Parameter(torch.zeros(config.codewords))
        last = self.synthesis[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        nn.init.normal_(last.weight, std=1e-2)
        nn.init.zeros_(last.bias)

    @torch.no_grad()
    def start_static(self, counts: Tensor, codebook: Tensor) -> None:
        """Start as the static code of *counts* (K), at the precision of the codebook (K×D) as a whole.

        A start at sigma -> infinity would be static too, but the gradient of mu is proportional to the precision.
        """
        counts = counts.double() + 1
        shares = counts / counts.sum()
        mean = shares.float() @ codebook
        precision = 1 / (shares.float() @ (codebook - mean).square()).clamp_min(1e-3)
        last = self.synthesis[-1]
        assert isinstance(last, nn.Conv2d)
        assert last.bias is not None
        last.bias.copy_(torch.cat([mean, precision.log()]))
        self.bias.copy_(shares.log() + 0.5 * (codebook - mean).square() @ precision)

    def analyse(self, latent: Tensor) -> Tensor:
        """Latent B×D×h×w to z before rounding, B×C×⌈h/4⌉×⌈w/4⌉."""
        return self.analysis(latent).clamp(-Z_LIMIT, Z_LIMIT)

    def synthesise(self, z: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """z to (mu, log 1/sigma^2) of each position of a latent of *size* (h, w): two tensors N×D, row by row."""
        out = self.synthesis(z)[..., : size[0], : size[1]].float()
        mean, log_precision = out.permute(0, 2, 3, 1).reshape(-1, 2 * self.config.dim).chunk(2, 1)
        return mean.clamp(-MEAN_LIMIT, MEAN_LIMIT), log_precision.clamp(*LOG_PRECISION_LIMITS)

    def z_bits(self, z: Tensor) -> Tensor:
        """Ideal code length of z (B×C×h×w, integer or with uniform noise) in bits, elementwise."""
        mean = self.z_mean[:, None, None]
        scale = self.z_log_scale.exp()[:, None, None]
        upper, lower = (z + 0.5 - mean) / scale, (z - 0.5 - mean) / scale
        # The logistic's cdf difference, from the side where it does not cancel.
        sign = torch.where(upper + lower > 0, -1.0, 1.0)
        mass = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        return -mass.clamp_min(1e-9).log2()

    def forward(self, latent: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Training pass: logits N×K, mean N×D, log_precision N×D, and the total bits of z (scalar).

        The rate of z is taken with uniform noise in place of rounding (Ballé et al., arXiv 1802.01436); the synthesis
        sees rounded values with a straight-through gradient.
        """
        z = self.analyse(latent)
        bits = self.z_bits(z + torch.rand_like(z) - 0.5).sum()
        rounded = z + (z.round() - z).detach()
        height, width = latent.shape[-2:]
        mean, log_precision = self.synthesise(rounded, (height, width))
        return anchor_logits(mean, log_precision, codebook.detach(), self.bias), mean, log_precision, bits

    def z_frequencies(self) -> Tensor:
        """Integer frequencies of z's values -Z_LIMIT … Z_LIMIT per channel (C×(2·Z_LIMIT+1), int64), for the coder."""
        values = torch.arange(-Z_LIMIT, Z_LIMIT + 1.0)
        with torch.no_grad():
            bits = self.z_bits(values.expand(len(self.z_mean), 1, -1))[:, 0]
        return (torch.exp2(-bits.double()) * 2**20).round().clamp_min(1).long()

    def save(self, path: Path, tokenizer: str) -> None:
        """Write weights (fp16, but fp32 for the few that set probabilities) for the tokenizer with that fingerprint."""
        precise = {"z_mean", "z_log_scale", "bias"}
        tensors = {name: t if name in precise else t.half() for name, t in self.state_dict().items()}
        tensors["z_frequencies"] = self.z_frequencies()
        save_weights(path, tensors, {"hyperprior": json.dumps(asdict(self.config)), "tokenizer": tokenizer})

    @classmethod
    def load(cls, path: Path) -> tuple[Hyperprior, Tensor, str]:
        """The networks, z's integer frequencies, and the fingerprint of the tokenizer that they belong to."""
        tensors, metadata = load_weights(path, "hyperprior", "tokenizer")
        frequencies = tensors.pop("z_frequencies")
        model = cls(HyperpriorConfig(**json.loads(metadata["hyperprior"])))
        model.load_state_dict({name: t.float() for name, t in tensors.items()})
        return model.eval(), frequencies, metadata["tokenizer"]


def log_frequencies(counts: Tensor) -> Tensor:
    """Natural logarithm of relative frequencies from counts (K), each count raised by one."""
    counts = counts.double() + 1
    return (counts / counts.sum()).log().float()


def static_bits(counts: Tensor, indices: Tensor) -> Tensor:
    """Ideal code length in bits of *indices* under the relative frequencies of *counts*."""
    return -log_frequencies(counts)[indices] / math.log(2)
