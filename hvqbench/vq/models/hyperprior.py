"""The hyperprior's networks: H-analysis y -> z, a factorised prior of z, and H-synthesis z -> (mu, log 1/sigma^2).

z has a quarter of the latent's resolution and few channels, because every one of its bits must pay for itself. Its
prior is a discretised logistic per channel. H-synthesis is built of convolutions, ReLUs and pixel shuffles only, so
that :mod:`hvqbench.vq.exact` can evaluate it exactly in integers (:mod:`hvqbench.vq.models.hyperprior_coding`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.vq.base import entries
from hvqbench.vq.pee import LOG_PRECISION_LIMITS, MEAN_LIMIT, RateMode, code_length, index_bits
from hvqbench.vq.weights import load_weights, save_weights

Z_LIMIT = 31
"""z is clamped to [-Z_LIMIT, Z_LIMIT]."""


@dataclass(frozen=True)
class HyperpriorConfig:
    """Shape of a hyperprior for a latent of ``dim`` channels that is coded in ``stages`` of ``codewords`` anchors each.

    ``context`` adds a two-pass checkerboard per stage (He et al., CVPR 2021, arXiv 2103.15306). ``head`` is ``anchor``
    (the PEE) or ``free``, a K-way linear classifier that serves as its ablation only; ``bias`` says whether b_k is
    learned or stays 0. ``given`` channels are known at every position before anything is sent, as a coarser grid is.
    """

    dim: int = 16
    codewords: int = 1024
    stages: int = 1
    width: int = 96
    z_channels: int = 6
    context: bool = False
    head: str = "anchor"
    bias: bool = True
    given: int = 0


class Context(nn.Module):
    """Update of one stage's (mu, log 1/sigma^2) from what the decoder already knows around each position."""

    def __init__(self, dim: int, width: int, given: int = 0) -> None:
        super().__init__()
        self.known = nn.Conv2d(dim + 1 + given, width, 5, padding=2)
        self.features = nn.Conv2d(width, width, 1)
        self.hidden = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, 2 * dim, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, known: Tensor) -> Tensor:
        """Features B×W×h×w and what is known (:func:`with_mask`) to an update B×2D×h×w."""
        hidden = functional.relu(self.known(known) + self.features(features))
        return self.out(functional.relu(self.hidden(hidden)))


class Hyperprior(nn.Module):
    """Float networks of one hyperprior; ``bias`` (stages×K) holds b_k."""

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
        )
        self.head = nn.Conv2d(width, 2 * dim * config.stages, 3, padding=1)
        nn.init.normal_(self.head.weight, std=1e-2)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]
        if config.context or config.given:
            self.context = nn.ModuleList(Context(dim, width, config.given) for _ in range(config.stages))
        if config.head == "free":
            self.free = nn.ModuleList(nn.Conv2d(width, config.codewords, 1) for _ in range(config.stages))
        self.z_mean = nn.Parameter(torch.zeros(config.z_channels))
        self.z_log_scale = nn.Parameter(torch.full((config.z_channels,), -0.5))
        self.bias = nn.Parameter(torch.zeros(config.stages, config.codewords), requires_grad=config.bias)

    @torch.no_grad()
    def start_static(self, counts: Tensor, codebooks: Tensor) -> None:
        """Start near the static code of *counts* (S×K), at the precision of the latent that the codebooks (S×K×D) span.

        A start at sigma -> infinity would be static too, but the gradient of mu is proportional to the precision. All
        stages start at the same precision: what tilts the later ones is how far mu lies from what is decoded, and that
        is as uncertain as mu.
        """
        assert self.head.bias is not None
        shares = counts.float() + 1
        shares = (shares / shares.sum(1, keepdim=True))[..., None]
        means = (shares * codebooks).sum(1)
        spread = (shares * (codebooks - means[:, None]).square()).sum(1).sum(0)
        low, high = (math.exp(limit) for limit in LOG_PRECISION_LIMITS)
        precision = (1 / spread.clamp_min(1e-9)).clamp(low, high)
        # mu stands for the whole embedding: what the stages before sent is subtracted from it.
        pairs = [torch.cat([mean, precision.log()]) for mean in means.cumsum(0)]
        self.head.bias.copy_(torch.cat(pairs))
        if self.config.bias:
            self.bias.copy_(shares[..., 0].log() + 0.5 * (codebooks - means[:, None]).square() @ precision)
        if self.config.head == "free":
            for free, share in zip(self.free, shares[..., 0], strict=True):
                nn.init.zeros_(free.weight)  # type: ignore[arg-type]
                free.bias.copy_(share.log())  # type: ignore[operator]

    @torch.no_grad()
    def start_stage(self, stage: int) -> None:
        """Let *stage*, from 1 on, begin with what the one before it has learned: mu stands for the whole embedding."""
        size = 2 * self.config.dim
        for parameter in (self.head.weight, self.head.bias):
            assert parameter is not None
            parameter[size * stage : size * (stage + 1)] = parameter[size * (stage - 1) : size * stage]

    def analyse(self, embedding: Tensor) -> Tensor:
        """Embedding B×D×h×w (the sum of all stages' entries) to z before rounding, B×C×⌈h/4⌉×⌈w/4⌉."""
        # oneDNN leaves the bfloat16 gradient of a strided convolution over a single position uninitialised.
        tiny = min(embedding.shape[-2:]) <= 2
        kind = embedding.device.type
        with torch.autocast(kind, enabled=torch.is_autocast_enabled(kind) and not tiny):
            return self.analysis(embedding).clamp(-Z_LIMIT, Z_LIMIT)

    def synthesise(self, z: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """z to features B×W×h×w and to parameters B×S·2D×h×w (mu, log 1/sigma^2 per stage) of a latent of *size*."""
        features = self.synthesis(z)
        height, width = size
        return features[..., :height, :width], self.head(features)[..., :height, :width].float()

    def shifted(self, parameters: Tensor, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """One stage's parameters B×2D×h×w to (mu - decoded, log 1/sigma^2), both N×D, row by row."""
        mean, log_precision = parameters.chunk(2, 1)
        mean = (mean - decoded).clamp(-MEAN_LIMIT, MEAN_LIMIT)
        return rows(mean), rows(log_precision.clamp(*LOG_PRECISION_LIMITS))

    def z_bits(self, z: Tensor) -> Tensor:
        """Ideal code length of z (B×C×h×w, integer or with uniform noise) in bits, elementwise."""
        mean = self.z_mean[:, None, None]
        scale = self.z_log_scale.exp()[:, None, None]
        upper, lower = (z + 0.5 - mean) / scale, (z - 0.5 - mean) / scale
        # The logistic's cdf difference, from the side where it does not cancel.
        sign = torch.where(upper + lower > 0, -1.0, 1.0)
        mass = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        return -mass.clamp_min(1e-9).log2()

    def forward(
        self,
        latent: Tensor | None,
        indices: Tensor,
        codebooks: Tensor,
        mode: RateMode = "hard",
        temperature: float = 0.1,
        kept: Tensor | None = None,
        given: Tensor | None = None,
        z_sent: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Bits of the indices (S×N, stage by stage) and of z (in all).

        z is computed from the embedding that *indices* stand for, which is what it must help to predict; the gradient
        passes straight through to the latent. In training mode the rate of z is taken with uniform noise in place of
        rounding (Ballé et al., arXiv 1802.01436), while the synthesis sees rounded values with a straight-through
        gradient; in evaluation both are rounded.

        Parameters
        ----------
        latent
            B×D×h×w, before quantization, for the gradient that reaches it; without one, of *indices* alone.
        indices
            B×S×h×w (int64), S at most ``stages``.
        codebooks
            At least S×K×D; gets no gradient.
        mode, temperature
            How the gradient of the bits reaches *latent*, see :func:`hvqbench.vq.pee.code_length`.
        kept
            The positions (of B·h·w, row by row) whose bits are computed; all by default. A large codebook makes the
            bits of one position dear, and a sample of them from many images teaches more than all of them from few.
        given
            What is known before (B×C×h×w), of ``config.given`` channels.
        z_sent
            1 where z is sent (B×1×⌈h/4⌉×⌈w/4⌉), and 0 where it counts as 0 and costs nothing; None for everywhere.
        """
        codebooks = codebooks.detach()
        only: Tensor | slice = slice(None) if kept is None else kept
        stages = [entries(*stage) for stage in zip(indices.unbind(1), codebooks, strict=False)]
        embedding = torch.stack(stages).sum(0)
        latent = embedding if latent is None else latent
        sent_at = 1.0 if z_sent is None else z_sent
        z = self.analyse(latent + (embedding - latent).detach()) * sent_at
        rounded = z + (z.round() - z).detach()
        z_bits = (self.z_bits(z + torch.rand_like(z) - 0.5 if self.training else rounded) * sent_at).sum()
        features, base = self.synthesise(rounded, (latent.shape[-2], latent.shape[-1]))
        bits, decoded = [], torch.zeros_like(latent)
        for stage, sent in enumerate(stages):
            mean, log_precision = self._stage(stage, features, base, decoded, sent, given)
            target = indices[:, stage].flatten()[only]
            if self.config.head == "free":
                bits.append(index_bits(rows(self.free[stage](features))[only], target))
            else:
                left, codebook, bias = rows(latent - decoded)[only], codebooks[stage], self.bias[stage]
                mean, log_precision = mean[only], log_precision[only]
                bits.append(code_length(mode, left, target, mean, log_precision, codebook, bias, temperature))
            decoded = decoded + sent
        return torch.stack(bits), z_bits

    def _stage(
        self, stage: int, features: Tensor, base: Tensor, decoded: Tensor, sent: Tensor, given: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Both passes of a stage at once, which training can do because it knows all that is *sent*."""
        size = 2 * self.config.dim
        parameters = base[:, size * stage : size * (stage + 1)]
        before = parameters
        if self.config.given or (self.config.context and stage):  # else in the very first pass nothing is known
            before = parameters + self.context[stage](features, with_mask(decoded, sent, None, given))
        if self.config.context:
            first = first_pass((base.shape[-2], base.shape[-1]), base.device)
            after = parameters + self.context[stage](features, with_mask(decoded, sent, first, given))
            before = torch.where(first, before, after)
        return self.shifted(before, decoded)

    def z_frequencies(self) -> Tensor:
        """Integer frequencies of z's values -Z_LIMIT … Z_LIMIT per channel (C×(2·Z_LIMIT+1), int64), for the coder."""
        values = torch.arange(-Z_LIMIT, Z_LIMIT + 1.0)
        with torch.no_grad():
            bits = self.z_bits(values.expand(len(self.z_mean), 1, -1))[:, 0]
        return (torch.exp2(-bits.double()) * 2**20).round().clamp_min(1).long()

    def tensors(self) -> dict[str, Tensor]:
        """What is stored: weights (fp16, but fp32 for the few that set probabilities), and z's integer frequencies."""
        precise = {"z_mean", "z_log_scale", "bias"}
        tensors = {name: t if name in precise else t.half() for name, t in self.state_dict().items()}
        return tensors | {"z_frequencies": self.z_frequencies()}

    @classmethod
    def of_tensors(cls, config: Mapping[str, Any], tensors: dict[str, Tensor]) -> tuple[Hyperprior, Tensor]:
        """The networks, and z's integer frequencies, from what was stored."""
        frequencies = tensors.pop("z_frequencies")
        model = cls(HyperpriorConfig(**config))
        model.load_state_dict({name: t.float() for name, t in tensors.items()})
        return model.eval(), frequencies

    def save(self, path: Path, tokenizer: str) -> None:
        """Write weights for the tokenizer with that digest."""
        metadata = {"hyperprior": json.dumps(asdict(self.config)), "tokenizer": tokenizer}
        save_weights(path, self.tensors(), metadata)

    @classmethod
    def load(cls, path: Path) -> tuple[Hyperprior, Tensor, str]:
        """The networks, z's integer frequencies, and the digest of the tokenizer that they belong to."""
        tensors, metadata = load_weights(path, "hyperprior", "tokenizer")
        return *cls.of_tensors(json.loads(metadata["hyperprior"]), tensors), metadata["tokenizer"]


def rows(values: Tensor) -> Tensor:
    """B×C×h×w to N×C, row by row."""
    return values.permute(0, 2, 3, 1).flatten(0, 2)


def first_pass(size: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """The checkerboard's first half: bool h×w, True where row + column is even."""
    height, width = size
    return (torch.arange(height, device=device)[:, None] + torch.arange(width, device=device)) % 2 == 0


def with_mask(decoded: Tensor, sent: Tensor, known: Tensor | None, given: Tensor | None = None) -> Tensor:
    """What :class:`Context` sees: B×(D+1)×h×w, and below it what is *given* before (B×C×h×w).

    The embedding known at each position (*decoded*, from the stages before, plus what this stage has *sent* where
    *known*, a bool h×w, is True), and below it the mask of those positions; *known* is None before the first pass.
    """
    mask = torch.zeros_like(decoded[:, :1]) if known is None else known.to(decoded).expand_as(decoded[:, :1])
    return torch.cat([decoded + sent * mask, mask, *([] if given is None else [given])], 1)
