"""DISTS (Ding et al., TPAMI 2020) through the authors' package, one layer at a time and at full resolution.

The authors' command line shrinks the short side to 256 pixels first; papers on compression do not, and neither does
this. The input ranges over [0, 1]. The original's features are computed once.

The values are those of ``DISTS_pytorch.DISTS`` without its rounding error: it takes a covariance as E[xy] - E[x] E[y]
in float32, whose error, up to 1e-4, meets a c2 of 1e-6 where a channel is constant. So equal images that are flat
would have 0.066. Here one minus each similarity is computed as such, from differences, which never cancel::

    1 - (2 mx my + c1) / (mx² + my² + c1)    =  (mx - my)²  / (mx² + my² + c1)
    1 - (2 cov(x, y) + c2) / (vx + vy + c2)  =  var(x - y)  / (vx + vy + c2)

Equal images have 0, and photographs move by 1.4e-4 at most.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
            alpha, beta = network.alpha.double(), network.beta.double()
            total = alpha.sum() + beta.sum()
            alphas, betas = ((weight / total).split(network.chns, dim=1) for weight in (alpha, beta))
            distance = 0.0
            for (x, x_mean, x_var), y, alpha, beta in zip(features, self._layers(image), alphas, betas, strict=True):
                y_mean, y_var = _moments(y)
                texture = (x_mean - y_mean) ** 2 / (x_mean**2 + y_mean**2 + STABILITY)
                structure = _variance_of_difference(x, x_mean, y, y_mean) / (x_var + y_var + STABILITY)
                distance += float((alpha * texture).sum() + (beta * structure).sum())
            return distance

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
    """Mean and variance of each channel, float64, 1×C×1×1."""
    mean = _mean(band for band in layer.split(BAND, dim=2))
    centre = mean.to(layer.dtype)
    return mean, _mean((band - centre).square_() for band in layer.split(BAND, dim=2))


def _variance_of_difference(
    x: torch.Tensor, x_mean: torch.Tensor, y: torch.Tensor, y_mean: torch.Tensor
) -> torch.Tensor:
    """Of each channel, float64, 1×C×1×1."""
    shift = (x_mean - y_mean).to(x.dtype)
    pairs = zip(x.split(BAND, dim=2), y.split(BAND, dim=2), strict=True)
    return _mean((a - b).sub_(shift).square_() for a, b in pairs)


def _mean(bands: Iterable[torch.Tensor]) -> torch.Tensor:
    """The mean over height and width of all *bands* of a layer, float64, 1×C×1×1."""
    import torch

    total, pixels = torch.zeros((), dtype=torch.float64), 0
    for band in bands:
        total = total.to(band.device) + band.sum((2, 3), keepdim=True).double()
        pixels += band.shape[2] * band.shape[3]
    return total / pixels
