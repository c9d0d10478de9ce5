"""Tokenizers: a convolutional autoencoder around one or more codebooks.

An image (B×3×H×W, values in [-1, 1], sides multiples of ``factor``) becomes a latent (B×D×h×w), each latent vector is
replaced by its nearest codebook entry (VQ-VAE, arXiv 1711.00937; VQGAN, arXiv 2012.09841), or by the sum of one entry
per stage, each nearest to what the stages before left over (residual VQ, SoundStream, arXiv 2107.03312), and the
decoder paints the image from those entries alone. All normalisation is per position, so a pixel depends on its
neighbourhood only and an image of any size is coded like the crops of training.

Tokenizers can share one :class:`Autoencoder`: what is a tokenizer's own is the way in to its latent, its codebooks, and
the way out. Each level of the autoencoder halves the resolution, and a tokenizer of factor f uses those down to 1/f.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hvqbench.errors import HvqbenchError
from hvqbench.vq.base import BaseTokenizer, grid_specs
from hvqbench.vq.blocks import ChannelNorm, ResidualBlock
from hvqbench.vq.weights import load_weights, save_weights, sha256

TOKENIZER_FILE = "tokenizer.safetensors"


@dataclass(frozen=True)
class AutoencoderConfig:
    """Widths and numbers of residual blocks, listed from the highest resolution (1/4) down."""

    encoder_widths: tuple[int, ...] = (64, 128, 256)
    encoder_blocks: tuple[int, ...] = (1, 2, 2)
    decoder_widths: tuple[int, ...] = (80, 160, 256)
    decoder_blocks: tuple[int, ...] = (2, 2, 3)
    head_width: int = 24

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> AutoencoderConfig:
        """From JSON or TOML values, whose tuples are lists."""
        shape: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**shape)

    def level(self, factor: int) -> int:
        """Position in the lists of the level at 1/*factor*."""
        level = factor.bit_length() - 3
        if factor != 4 * 2**level or not 0 <= level < len(self.encoder_widths):
            known = ", ".join(str(4 * 2**i) for i in range(len(self.encoder_widths)))
            raise HvqbenchError(f"this autoencoder has no level at 1/{factor}; it has {known}")
        return level


@dataclass(frozen=True)
class TokenizerConfig:
    """What is a tokenizer's own; stored with its weights.

    ``factor`` is the side in pixels of the patch that one position stands for (16: f16), ``codewords`` is K, ``dim`` is
    D, ``stages`` is the number of codebooks, ``encoder_blocks`` and ``decoder_blocks`` are residual blocks of its own.
    """

    factor: int = 16
    codewords: int = 1024
    dim: int = 16
    stages: int = 1
    encoder_blocks: int = 0
    decoder_blocks: int = 0


class Autoencoder(nn.Module):
    """The levels that tokenizers share, between pixels and features.

    The last two doublings towards the pixels are pixel shuffles with a convolution between them at half resolution: a
    single shuffle by 4 leaves a visible 4×4 grid.
    """

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        widths, down, up = config.encoder_widths, nn.ModuleList(), nn.ModuleList()
        for level, (width, blocks) in enumerate(zip(widths, config.encoder_blocks, strict=True)):
            first = nn.Conv2d(widths[level - 1], width, 4, stride=2, padding=1)
            start = [first] if level else [nn.PixelUnshuffle(4), nn.Conv2d(48, width, 3, padding=1)]
            down.append(nn.Sequential(*start, *(ResidualBlock(width) for _ in range(blocks))))
        widths, head = config.decoder_widths, config.head_width
        for level, (width, blocks) in enumerate(zip(widths, config.decoder_blocks, strict=True)):
            end: list[nn.Module] = [nn.Conv2d(width, 4 * widths[level - 1], 1), nn.PixelShuffle(2)]
            if level == 0:
                end = [ChannelNorm(width), nn.Conv2d(width, 4 * head, 3, padding=1), nn.PixelShuffle(2), nn.SiLU()]
                end += [nn.Conv2d(head, 12, 3, padding=1), nn.PixelShuffle(2)]
            up.append(nn.Sequential(*(ResidualBlock(width) for _ in range(blocks)), *end))
        self.down, self.up = down, up

    def encode(self, image: Tensor, factors: Mapping[int, int]) -> dict[int, Tensor]:
        """Features of a batch B×3×H×W in [-1, 1], part by part.

        *factors* says how many images leave at which factor, the coarsest first: ``{16: 6, 8: 2}``. So tokenizers of
        several factors train on one batch.
        """
        features, parts = image, {}
        finest_first = sorted(factors)
        for level, layer in enumerate(self.down):
            features = layer(features)
            factor = 4 * 2**level
            if factor in factors:
                stay = sum(factors[f] for f in finest_first if f > factor)
                features, parts[factor] = features[:stay], features[stay:]
                if not stay:
                    break
        return parts

    def decode(self, parts: Mapping[int, Tensor]) -> Tensor:
        """Features by the factor where they enter to one batch of images B×3×H×W, about [-1, 1], the coarsest first."""
        features: list[Tensor] = []
        for level in reversed(range(len(self.up))):
            if 4 * 2**level in parts:
                features.append(parts[4 * 2**level])
            if features:
                features = [self.up[level](torch.cat(features))]
        return features[0]


class Tokenizer(BaseTokenizer):
    """An autoencoder, the way in to the latent, codebooks, and the way out; ``digest`` is its own file's sha256."""

    codebooks: Tensor
    painting = ("leave.", "autoencoder.up.")

    def __init__(self, config: TokenizerConfig, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.config, self.autoencoder = config, autoencoder
        self.factor, self.grids = config.factor, grid_specs([config.factor] * config.stages)
        level = autoencoder.config.level(config.factor)
        inner, outer = autoencoder.config.encoder_widths[level], autoencoder.config.decoder_widths[level]
        blocks = [ResidualBlock(inner) for _ in range(config.encoder_blocks)]
        self.enter = nn.Sequential(*blocks, ChannelNorm(inner), nn.Conv2d(inner, config.dim, 1))
        blocks = [ResidualBlock(outer) for _ in range(config.decoder_blocks)]
        self.leave = nn.Sequential(nn.Conv2d(config.dim, outer, 3, padding=1), *blocks)
        self.register_buffer("codebooks", torch.zeros(config.stages, config.codewords, config.dim))

    @property
    def reach(self) -> int:
        shape, own = self.autoencoder.config, self.config
        sides = [4 * 2**level for level in range(shape.level(own.factor) + 1)]
        # In pixels. A block's two convolutions reach one position each; a strided one two of the finer positions.
        blocks_in, blocks_out = (
            sum(2 * blocks * side for blocks, side in zip(numbers, sides, strict=False))
            for numbers in (shape.encoder_blocks, shape.decoder_blocks)
        )
        into = 4 + blocks_in + 2 * sum(sides[:-1]) + 2 * own.encoder_blocks * own.factor
        out = (1 + 2 * own.decoder_blocks) * own.factor + blocks_out + 4 + 2
        return math.ceil(max(into, out) / own.factor)

    def encode(self, image: Tensor) -> Tensor:
        """Image B×3×H×W in [-1, 1] to the continuous latent B×D×h×w, before quantization."""
        factor = self.config.factor
        return self.enter(self.autoencoder.encode(image, {factor: len(image)})[factor])

    def paint(self, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        """The embeddings of the first stages, each B×D×h×w, to the image B×3×H×W, about [-1, 1]."""
        return self.autoencoder.decode({self.config.factor: self.leave(torch.stack(list(embeddings)).sum(0))})

    def save(self, path: Path, autoencoder: Path) -> None:
        """Write what is the tokenizer's own (fp16; codebooks in fp32, because their digits decide indices).

        *autoencoder* is the file that :func:`save_autoencoder` wrote; its place relative to *path* and its sha256 are
        kept.
        """
        own = {name: t for name, t in self.state_dict().items() if not name.startswith("autoencoder.")}
        tensors = {name: t if name == "codebooks" else t.half() for name, t in own.items()}
        relative = Path(os.path.relpath(autoencoder, path.parent)).as_posix()
        metadata = {"config": json.dumps(asdict(self.config)), "autoencoder": relative, "sha256": sha256(autoencoder)}
        save_weights(path, tensors, metadata)

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read what :meth:`save` wrote; a file of another kind or shape is an error that names it."""
        tensors, metadata = load_weights(path, "config", "autoencoder", "sha256")
        file = path.parent / metadata["autoencoder"]
        tokenizer = cls(TokenizerConfig(**json.loads(metadata["config"])), load_autoencoder(file))
        if sha256(file) != metadata["sha256"]:
            raise HvqbenchError(
                f"{path} belongs to another autoencoder than {file.resolve()}; fetch or train both again"
            )
        own = {name: t.float() for name, t in tensors.items()}
        tokenizer.load_state_dict(own | {f"autoencoder.{n}": t for n, t in tokenizer.autoencoder.state_dict().items()})
        tokenizer.digest = sha256(path)
        return tokenizer.eval()


def save_autoencoder(autoencoder: Autoencoder, path: Path) -> None:
    """Write an autoencoder's weights (fp16) and configuration."""
    tensors = {name: t.half() for name, t in autoencoder.state_dict().items()}
    save_weights(path, tensors, {"autoencoder": json.dumps(asdict(autoencoder.config))})


def load_autoencoder(path: Path) -> Autoencoder:
    """Read what :func:`save_autoencoder` wrote."""
    tensors, metadata = load_weights(path, "autoencoder")
    autoencoder = Autoencoder(AutoencoderConfig.parse(json.loads(metadata["autoencoder"])))
    autoencoder.load_state_dict({name: t.float() for name, t in tensors.items()})
    return autoencoder.eval()
