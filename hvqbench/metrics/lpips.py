"""LPIPS v0.1 (Zhang et al., CVPR 2018) through the authors' package, one layer at a time.

The values are those of ``lpips.LPIPS``. What differs is the order of the work: the original's features are kept, so
that each decoded image costs one pass through the network and not two.

The input ranges over [-1, 1]. A range of [0, 1] is the classic mistake; it moves the score by 20 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from hvqbench.codec import Image
from hvqbench.metrics.base import Metric
from hvqbench.metrics.networks import channels_last, full_precision, lpips_network
from hvqbench.metrics.vgg import first_stage, to_tensor

if TYPE_CHECKING:
    import torch

BAND = 16
"""Rows of a layer that are compared at a time."""
TINY = 1e-10
"""What the package adds to a length, so that none is zero."""


class LPIPS(Metric):
    """Distance of deep features; ``info.options["net"]`` is the backbone, ``alex`` or ``vgg``."""

    _network: Any = None
    _device = "cpu"

    def prepare(self, device: str = "cpu") -> None:
        if self._network is None or device != self._device:
            network = lpips_network(self.info.options["net"])
            self._network, self._device = channels_last(network).to(device), device

    def _features(self, image: Image) -> list[torch.Tensor]:
        self.prepare(self._device)
        with full_precision():
            return [_unit(layer) for layer in self._layers(image)]

    def _score(self, features: list[torch.Tensor], image: Image) -> float:
        with full_precision():
            pairs = zip(features, self._layers(image), self._network.lins, strict=True)
            return float(sum(_distance(reference, layer, linear) for reference, layer, linear in pairs))

    def _layers(self, image: Image) -> Iterator[torch.Tensor]:
        """Activations of the five layers, 1×C×h×w each."""
        net = self._network.net
        if self.info.options["net"] == "vgg":
            activations = first_stage(self._device)(image)
        else:
            pixels = to_tensor(image, self._device) / 127.5 - 1
            activations = net.slice1(self._network.scaling_layer(pixels))
        yield activations
        for k in range(2, self._network.L + 1):
            activations = getattr(net, f"slice{k}")(activations)
            yield activations


def _unit(layer: torch.Tensor) -> torch.Tensor:
    """Each position's vector over its length, as the package does it."""
    import torch

    return layer / (torch.linalg.vector_norm(layer, dim=1, keepdim=True) + TINY)


def _distance(reference: torch.Tensor, layer: torch.Tensor, linear: Any) -> torch.Tensor:
    """The layer's part of the sum. By bands of rows: what is in between then stays in the processor's cache."""
    total: Any = 0.0
    for ours, theirs in zip(reference.split(BAND, dim=2), layer.split(BAND, dim=2), strict=True):
        total += linear(_unit(theirs).sub_(ours).square_()).sum()
    return total / (layer.shape[2] * layer.shape[3])
