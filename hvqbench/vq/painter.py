"""The painter: the convolutional autoencoder that our tokenizers share, f8 with 32 channels, 1.3 M parameters each way.

Its shape, and the weights it starts from, are TAEF2's (madebyollin/taesd, MIT licence), a distilled autoencoder that
restores photographs almost unchanged. There, three blocks on each side look at the whole image through a GroupNorm. Its
statistics hardly differ between photographs, so here they are constants and part of the 1×1 convolution before them
(:mod:`hvqbench.training.start`): every layer is a convolution or a ReLU, a value depends on its neighbourhood only, and
tiles of an image are coded as in the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 32
"""Of the painter's latent."""
FACTOR = 8
"""Side in pixels of the patch that one position of the painter's latent stands for."""
WIDTH = 64
LATENT_LIMIT = 3.0
"""The decoder bends its input by 3·tanh(x / 3)."""


class Block(nn.Module):
    """Three 3×3 convolutions around a shortcut; a *wide* block first adds a two-layer network of each position."""

    def __init__(self, wide: bool = False) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.ReLU(), convolutions[2])
        self.wide: nn.Module | None = None
        if wide:
            self.wide = nn.Sequential(
                nn.Conv2d(WIDTH, 4 * WIDTH, 1), nn.ReLU(), nn.Conv2d(4 * WIDTH, WIDTH, 1, bias=False)
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.wide is not None:
            x = x + self.wide(x)
        return functional.relu(self.conv(x) + x)


class PainterEncoder(nn.Sequential):
    """Image B×3×H×W in [-1, 1], sides multiples of 8, to the painter's latent B×32×H/8×W/8, about unit variance."""

    reach = 19
    """How many positions around its own a latent vector depends on: 145 pixels."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, WIDTH, 3, padding=1), Block()]
        for level in range(3):
            layers += [nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1, bias=False)]
            layers += [Block(wide=level == 2) for _ in range(3)]
        super().__init__(*layers, nn.Conv2d(WIDTH, CHANNELS, 3, padding=1))

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image * 0.5 + 0.5)


class PainterDecoder(nn.Sequential):
    """The painter's latent B×32×h×w to the image B×3×8h×8w, about [-1, 1]."""

    reach = 19

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(CHANNELS, WIDTH, 3, padding=1), nn.ReLU()]
        for level in range(3):
            layers += [Block(wide=level == 0) for _ in range(3)]
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False)]
        super().__init__(*layers, Block(), nn.Conv2d(WIDTH, 3, 3, padding=1))

    def forward(self, latent: Tensor) -> Tensor:
        bent = LATENT_LIMIT * torch.tanh(latent / LATENT_LIMIT)
        return super().forward(bent) * 2 - 1
