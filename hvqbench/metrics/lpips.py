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
from hvqbench.metrics.networks import full_precision, lpips_network

if TYPE_CHECKING:
    import torch


class LPIPS(Metric):
    """Distance of deep features; ``info.options["net"]`` is the backbone, ``alex`` or ``vgg``."""

    _network: Any = None
    _device = "cpu"

    def prepare(self, device: str = "cpu") -> None:
        if self._network is None or device != self._device:
            self._network, self._device = lpips_network(self.info.options["net"]).to(device), device

    def _features(self, image: Image) -> list[torch.Tensor]:
        self.prepare(self._device)
        with full_precision():
            return list(self._layers(image))

    def _score(self, features: list[torch.Tensor], image: Image) -> float:
        with full_precision():
            distances = [
                linear((reference - layer) ** 2).mean((2, 3))
                for reference, layer, linear in zip(features, self._layers(image), self._network.lins, strict=True)
            ]
            return float(sum(distances))

    def _layers(self, image: Image) -> Iterator[torch.Tensor]:
        """Unit-normalised activations of the five layers, 1×C×h×w each."""
        import lpips
        import torch

        pixels = torch.tensor(image, device=self._device).permute(2, 0, 1)[None].float() / 127.5 - 1
        activations = self._network.scaling_layer(pixels)
        for k in range(1, self._network.L + 1):
            activations = getattr(self._network.net, f"slice{k}")(activations)
            yield lpips.normalize_tensor(activations)
