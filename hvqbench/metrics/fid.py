"""FID and KID by HiFiC's patch protocol (Mentzer et al., NeurIPS 2020): distances between two sets of tiles.

Each image is cut into 256-pixel tiles from its top left corner, and again from half a tile further in both directions
where both sides have at least one and a half tiles. What does not fill a tile is left out. That is the protocol as
NeuralCompression publishes it, on which MS-ILLM's numbers stand. Kodak gives 192 tiles.

FID depends on the number of tiles: few of them bias it upwards, so values over different sets or protocols do not
compare. KID has no such bias, but with few tiles it spreads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hvqbench.codec import Image, check_image
from hvqbench.metrics.base import SetMetric

if TYPE_CHECKING:
    from hvqbench.metrics.inception import Inception

TILE = 256
BLOCK = 2048
"""Rows of a kernel matrix that are in memory at a time."""

_networks: dict[str, Inception] = {}
"""One network for each device: FID and KID share it."""


def tile_origins(width: int, height: int) -> list[tuple[int, int]]:
    """Left and top of every tile, in the order of the protocol: the grid by rows, then the shifted grid.

    >>> tile_origins(512, 384)
    [(0, 0), (256, 0), (128, 128)]
    """
    starts = (0, TILE // 2) if 2 * min(width, height) >= 3 * TILE else (0,)
    return [
        (x, y)
        for start in starts
        for y in range(start, height - TILE + 1, TILE)
        for x in range(start, width - TILE + 1, TILE)
    ]


class InceptionTiles(SetMetric):
    """Features of 256-pixel tiles from FID's InceptionV3."""

    descriptor = "inception-2015-12-05-tiles-256"
    _device = "cpu"

    def prepare(self, device: str = "cpu") -> None:
        from hvqbench.metrics.inception import Inception

        self._device = device
        if device not in _networks:
            _networks[device] = Inception(device)

    def patches(self, width: int, height: int) -> int:
        return len(tile_origins(width, height))

    def describe(self, image: Image) -> NDArray[np.float32]:
        check_image(image)
        self.prepare(self._device)
        height, width = image.shape[:2]
        tiles = [image[y : y + TILE, x : x + TILE] for x, y in tile_origins(width, height)]
        return _networks[self._device](np.stack(tiles) if tiles else np.empty((0, TILE, TILE, 3), np.uint8))


class FID(InceptionTiles):
    """Fréchet distance of two Gaussians (Heusel et al., NeurIPS 2017): |μ₁-μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½)."""

    def distance(self, originals: NDArray[Any], decoded: NDArray[Any]) -> float:
        means = [features.mean(0, dtype=np.float64) for features in (originals, decoded)]
        first, second = _root(originals, means[0]), _root(decoded, means[1])
        # With Σ = RᵀR, the eigenvalues of Σ₁Σ₂ are the squared singular values of R₁R₂ᵀ: no root of a singular matrix,
        # and for fewer tiles than features a small problem.
        product = np.linalg.svd(first @ second.T, compute_uv=False).sum()
        difference = means[0] - means[1]
        distance = difference @ difference + (first**2).sum() + (second**2).sum() - 2 * product
        return float(max(distance, 0.0))  # rounding leaves -1e-12 for equal sets


class KID(InceptionTiles):
    """Squared maximum mean discrepancy under (xᵀy / d + 1)³ (Binkowski et al., ICLR 2018), unbiased, over all tiles.

    The authors' protocol draws 100 random subsets of 1000 and gives their mean. This is what that mean estimates,
    without the randomness.
    """

    def distance(self, originals: NDArray[Any], decoded: NDArray[Any]) -> float:
        x, y = originals.astype(np.float64), decoded.astype(np.float64)
        within = sum((_kernel_sum(z, z) - _diagonal_sum(z)) / (len(z) * (len(z) - 1)) for z in (x, y))
        return float(within - 2 * _kernel_sum(x, y) / (len(x) * len(y)))


def _root(features: NDArray[Any], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """R with RᵀR = the (unbiased) covariance of the rows; at most as many rows as columns."""
    centred: NDArray[np.float64] = (features - mean) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred


def _kernel_sum(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    blocks = (x[start : start + BLOCK] @ y.T for start in range(0, len(x), BLOCK))
    return float(sum(((block / x.shape[1] + 1) ** 3).sum() for block in blocks))


def _diagonal_sum(x: NDArray[np.float64]) -> float:
    return float((((x * x).sum(1) / x.shape[1] + 1) ** 3).sum())
