"""Tokenizers: a convolutional autoencoder around a codebook.

An image (B×3×H×W, values in [-1, 1], sides multiples of ``factor``) becomes a latent (B×D×h×w), each latent vector is
replaced by its nearest codebook entry, and the decoder paints the image from those entries alone (VQ-VAE, arXiv
1711.00937; VQGAN, arXiv 2012.09841). All normalisation is per position, so a pixel depends on its neighbourhood only
and an image of any size is coded like the crops of training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hvqbench.vq.weights import load_weights, save_weights


@dataclass(frozen=True)
class TokenizerConfig:
    """Shape of a tokenizer; stored with its weights.

    ``factor`` is the side of the patch that one index stands for (16: f16), ``codewords`` is K and ``dim`` is D. Widths
    are listed from the highest resolution (1/4) down to 1/``factor``.
    """

    factor: int = 16
    codewords: int = 1024
    dim: int = 16
    encoder_widths: tuple[int, ...] = (64, 128, 256)
    encoder_blocks: tuple[int, ...] = (1, 2, 2)
    decoder_widths: tuple[int, ...] = (80, 160, 256)
    decoder_blocks: tuple[int, ...] = (2, 2, 3)
    head_width: int = 24

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> TokenizerConfig:
        """From JSON or TOML values, whose tuples are lists."""
        shape: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**shape)

    def __post_init__(self) -> None:
        if 4 * 2 ** (len(self.encoder_widths) - 1) != self.factor or len(self.encoder_widths) != len(
            self.decoder_widths
        ):
            raise ValueError(f"factor {self.factor} needs {self.factor.bit_length() - 2} widths, from 1/4 down")


class ChannelNorm(nn.Module):
    """Root-mean-square norm over the channels of each position (arXiv 1910.07467)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-6) * self.gain


class ResidualBlock(nn.Module):
    """Pre-norm residual block of two 3×3 convolutions; the second starts at zero, so the block starts as identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(functional.silu(self.conv1(self.norm(x))))


class Encoder(nn.Sequential):
    """Image B×3×H×W in [-1, 1] to latent B×D×H/f×W/f."""

    def __init__(self, config: TokenizerConfig) -> None:
        widths = config.encoder_widths
        layers: list[nn.Module] = [nn.PixelUnshuffle(4), nn.Conv2d(48, widths[0], 3, padding=1)]
        for level, (width, blocks) in enumerate(zip(widths, config.encoder_blocks, strict=True)):
            if level:
                layers.append(nn.Conv2d(widths[level - 1], width, 4, stride=2, padding=1))
            layers += [ResidualBlock(width) for _ in range(blocks)]
        layers += [ChannelNorm(widths[-1]), nn.Conv2d(widths[-1], config.dim, 1)]
        super().__init__(*layers)


class Decoder(nn.Sequential):
    """Codebook entries B×D×h×w to an image B×3×(f·h)×(f·w), about [-1, 1].

    The last two doublings are pixel shuffles with a convolution between them at half resolution: a single shuffle by 4
    leaves a visible 4×4 grid.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        widths, blocks = config.decoder_widths[::-1], config.decoder_blocks[::-1]
        layers: list[nn.Module] = [nn.Conv2d(config.dim, widths[0], 3, padding=1)]
        for level, width in enumerate(widths):
            if level:
                layers += [nn.Conv2d(widths[level - 1], 4 * width, 1), nn.PixelShuffle(2)]
            layers += [ResidualBlock(width) for _ in range(blocks[level])]
        head = config.head_width
        layers += [
            ChannelNorm(widths[-1]),
            nn.Conv2d(widths[-1], 4 * head, 3, padding=1),
            nn.PixelShuffle(2),
            nn.SiLU(),
        ]
        layers += [nn.Conv2d(head, 12, 3, padding=1), nn.PixelShuffle(2)]
        super().__init__(*layers)


class Tokenizer(nn.Module):
    """Encoder, codebook (K×D, buffer) and decoder."""

    codebook: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("codebook", torch.zeros(config.codewords, config.dim))

    def encode(self, image: Tensor) -> Tensor:
        """Image B×3×H×W in [-1, 1] to the continuous latent B×D×h×w, before quantization."""
        return self.encoder(image)

    def embed(self, indices: Tensor) -> Tensor:
        """Indices B×h×w to their codebook entries B×D×h×w."""
        return functional.embedding(indices, self.codebook).permute(0, 3, 1, 2)

    def decode(self, indices: Tensor) -> Tensor:
        """Indices B×h×w to the image B×3×H×W in [-1, 1]."""
        return self.decoder(self.embed(indices)).clamp(-1, 1)

    def save(self, path: Path) -> None:
        """Write weights (fp16; the codebook in fp32, because its digits decide indices) and configuration."""
        tensors = {name: t if name == "codebook" else t.half() for name, t in self.state_dict().items()}
        save_weights(path, tensors, {"config": json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what :meth:`save` wrote; a file of another kind or shape is an error that names it."""
        tensors, metadata = load_weights(path, "config")
        tokenizer = cls(TokenizerConfig.parse(json.loads(metadata["config"])))
        tokenizer.load_state_dict({name: t.float() for name, t in tensors.items()})
        return tokenizer.eval()


def nearest(latent: Tensor, codebook: Tensor) -> Tensor:
    """Index of the nearest codebook entry: N×D, K×D -> N (int64)."""
    return squared_distances(latent, codebook).argmin(1)


def squared_distances(latent: Tensor, codebook: Tensor) -> Tensor:
    """Squared Euclidean distance up to a term that is equal for all entries: N×D, K×D -> N×K."""
    return torch.addmm(codebook.square().sum(1), latent, codebook.T, alpha=-2)
