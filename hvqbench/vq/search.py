"""Search at encode time: the latent is moved until what its codewords paint looks more like the image.

The encoder network guesses a latent in one pass. For one image, gradient descent through the frozen decoder improves on
the guess (content-adaptive encoding, Campos et al., arXiv 1906.01223); the gradient passes the quantizer straight
through (arXiv 1711.00937). Format and decoder stay what they are: the encoder alone takes longer. The terms
descended are those that the shipped decoders were trained on, LPIPS on AlexNet among them: judge by other metrics too.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hvqbench.metrics.perceptual import PerceptualLoss
from hvqbench.vq.base import BaseTokenizer, Features
from hvqbench.vq.distance import nearest
from hvqbench.vq.features import mapped, part_of, tensors
from hvqbench.vq.tiling import scaled, windows

FIRST_STEP = 0.15
"""Of Adam's step, in standard deviations of the codebook's entries; from there it falls linearly to zero."""
ALEX_WEIGHT, VGG_WEIGHT, VGG_SIDE = 2.0, 1.0, 128
"""LPIPS on AlexNet sees all pixels, on VGG16, which costs much more, one square at random per step; L1 weighs 1."""
LEAST_SIDE = 64
"""Smaller pictures are repeated at their edges up to this: AlexNet's strides leave nothing of them."""


def searched(
    tokenizer: BaseTokenizer, image: Tensor, features: Features, steps: int, tile: int | None = None
) -> Features:
    """Features from which *tokenizer* paints *image* better than from the given ones.

    Parameters
    ----------
    image
        1×3×f·h×f·w in [-1, 1].
    features
        Where the descent starts: what the encoder gave.
    steps
        Each costs about five times as long as decoding.
    tile
        As in :func:`hvqbench.vq.tiling.windows`: memory then follows it, not the image.
    """
    factor = tokenizer.factor
    height, width = image.shape[-2] // factor, image.shape[-1] // factor
    parts = list(windows(tokenizer, (height, width), tile))
    spread = float(tokenizer.codebooks[0].std())
    rng = np.random.default_rng(0)
    with torch.inference_mode(False), torch.enable_grad():
        moved = mapped(features, lambda tensor: tensor.clone().requires_grad_())
        leaves = tensors(moved)
        image = image.clone()  # as the features, it may come from inference mode
        optimizer = torch.optim.Adam(leaves, betas=(0.5, 0.9))
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = FIRST_STEP * spread * (1 - step / steps)
            for leaf in leaves:
                leaf.grad = torch.zeros_like(leaf)
            for window in parts:
                sent = _straight_through(tokenizer, part_of(moved, window.seen, height))
                painted = tokenizer.paint(sent)[..., *scaled(window.inner, factor)]
                loss = _loss(painted, image[..., *scaled(window.kept, factor)], rng)
                share = painted[0, 0].numel() / image[0, 0].numel()
                for leaf, gradient in zip(leaves, torch.autograd.grad(share * loss, leaves), strict=True):
                    assert leaf.grad is not None
                    leaf.grad += gradient
            optimizer.step()
    return mapped(moved, lambda tensor: tensor.detach())


def _straight_through(tokenizer: BaseTokenizer, features: Features) -> list[Tensor]:
    """The nearest entries of each grid, whose gradient is that of what they stand for."""
    sent: list[Tensor] = []
    for codebook in tokenizer.codebooks:
        target = tokenizer.target(features, sent)
        rows = target.detach().permute(0, 2, 3, 1)
        chosen = codebook[nearest(rows.flatten(0, 2), codebook)].view(rows.shape).permute(0, 3, 1, 2)
        sent.append(target + (chosen - target).detach())
    return sent


@functools.cache
def _perceptual(device: str) -> tuple[PerceptualLoss, PerceptualLoss]:
    """LPIPS on AlexNet and, of a window, on VGG16."""
    return PerceptualLoss("alex").to(device), PerceptualLoss("vgg", window=VGG_SIDE).to(device)


def _loss(painted: Tensor, image: Tensor, rng: np.random.Generator) -> Tensor:
    alex, vgg = _perceptual(str(image.device))
    height, width = image.shape[-2:]
    right, below = max(0, LEAST_SIDE - width), max(0, LEAST_SIDE - height)
    painted, image = (functional.pad(x, (0, right, 0, below), mode="replicate") for x in (painted, image))
    perceptual = ALEX_WEIGHT * alex(painted, image, rng) + VGG_WEIGHT * vgg(painted, image, rng)
    return (painted - image).abs().mean() + perceptual
