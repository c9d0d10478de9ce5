"""DISTS (Ding et al., TPAMI 2020) through the authors' package, one layer at a time and at full resolution.

The values are those of ``DISTS_pytorch.DISTS``, but the original's features are computed once. The authors' command
line shrinks the short side to 256 pixels first; papers on compression do not, and neither does this. The input ranges
over [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hvqbench.codec import Image
from hvqbench.metrics.base import Metric
from hvqbench.metrics.networks import channels_last, dists_network, full_precision
from hvqbench.metrics.vgg import first_stage, to_tensor

if TYPE_CHECKING:
    import torch

STABILITY = 1e-6  # c1 and c2 of equations 5 and 6
BAND = 16
"""Rows of a layer that are worked on at a time: what is in between then stays in the processor's cache."""


class DISTS(Metric):
    """One minus the similarity of structure and texture, over the image and five layers of VGG16."""

    _network: Any = None
    _device = "cpu"

    def prepare(self, device: str = "cpu") -> None:
        if self._network is None or device != self._device:
            self._network, self._device = channels_last(dists_network()).to(device), device

    def _features(self, image: Image) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        self.prepare(self._device)
        with full_precision():
            return [(layer, *_moments(layer)) for layer in self._layers(image)]

    def _score(self, features: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], image: Image) -> float:
        network = self._network
        with full_precision():
            total = network.alpha.sum() + network.beta.sum()
            alphas = (network.alpha / total).split(network.chns, dim=1)
            betas = (network.beta / total).split(network.chns, dim=1)
            similarity = 0.0
            for (x, x_mean, x_var), y, alpha, beta in zip(features, self._layers(image), alphas, betas, strict=True):
                y_mean, y_var = _moments(y)
                covariance = _mean(x, y) - x_mean * y_mean
                texture = (2 * x_mean * y_mean + STABILITY) / (x_mean**2 + y_mean**2 + STABILITY)
                structure = (2 * covariance + STABILITY) / (x_var + y_var + STABILITY)
                similarity += float((alpha * texture).sum() + (beta * structure).sum())
            return max(0.0, 1 - similarity)  # rounding can take equal images to -1e-8

    def _layers(self, image: Image) -> Iterator[torch.Tensor]:
        """The image itself and the activations of the five stages, 1×C×h×w each."""
        network = self._network
        yield to_tensor(image, self._device) / 255
        activations = first_stage(self._device)(image)
        yield activations
        for stage in (network.stage2, network.stage3, network.stage4, network.stage5):
            activations = stage(activations)
            yield activations


def _moments(layer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each channel, 1×C×1×1."""
    mean = layer.mean((2, 3), keepdim=True)
    squares = sum(
        ((band - mean).square_().sum((2, 3), keepdim=True) for band in layer.split(BAND, dim=2)),
        start=mean.new_zeros(()),
    )
    return mean, squares / (layer.shape[2] * layer.shape[3])


def _mean(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The mean of the products, 1×C×1×1."""
    pairs = zip(x.split(BAND, dim=2), y.split(BAND, dim=2), strict=True)
    products = sum(((a * b).sum((2, 3), keepdim=True) for a, b in pairs), start=x.new_zeros(()))
    return products / (x.shape[2] * x.shape[3])
