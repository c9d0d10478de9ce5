"""Where a metric sees the difference: LPIPS and DISTS as maps over the image, lower is better as with the score.

**LPIPS** is a sum over layers of means over positions, so it has a map: each layer's differences enlarged to the image
and added, which is what the authors' package returns with ``spatial=True``. Its mean is the score, but for what the
interpolation adds at the edges of the layers.

**DISTS** compares moments over the whole image, and has none. What is shown is the same formula over windows of
:data:`WINDOW` pixels, as A-DISTS (Ding et al., ACM MM 2021) has it without its weights: 0 where a window's structure
and texture are alike. With a window as large as the image it is the score everywhere; smaller ones are stricter, so
that the map's mean is above the score.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from hvqbench.codec import Image
from hvqbench.errors import HvqbenchError
from hvqbench.metrics.dists import DISTS, STABILITY
from hvqbench.metrics.lpips import LPIPS, TINY
from hvqbench.metrics.networks import full_precision

if TYPE_CHECKING:
    import torch

MAPS = ("lpips-alex", "lpips-vgg", "dists")
"""The metrics that have one."""

WINDOW, STEP = 64, 16
"""Of DISTS' map, in pixels: the side of a window, and how far one is from the next. DISTS' last layer is of 16."""

LIGHTEST = {"lpips-alex": 0.8, "lpips-vgg": 0.8, "dists": 0.5}
"""The value that has a map's lightest colour where maps are to compare with others that are not at hand: about what the
worst hundredth of a picture has at the lowest rates."""

CHANNELS = 16
"""Of a layer, that are worked on at a time."""

Map = NDArray[np.float32]


def load_maps(metrics: Iterable[str]) -> dict[str, LPIPSMap | DISTSMap]:
    """The map of each of *metrics*; one that has none raises before anything is computed."""
    from hvqbench.metrics import metric_id

    return {name: load_map(name) for name in map(metric_id, metrics)}


def load_map(metric: str) -> LPIPSMap | DISTSMap:
    """The map of *metric*, one of :data:`MAPS`; its weights are loaded when it is first called."""
    from hvqbench.metrics import metric_id, metric_info

    metric = metric_id(metric)
    if metric not in MAPS:
        metric_info(metric)  # says so if there is no such metric at all
        raise HvqbenchError(f"{metric} has no map: choose one of {', '.join(MAPS)}")
    info = metric_info(metric)
    return DISTSMap(info) if metric == "dists" else LPIPSMap(info)


class LPIPSMap(LPIPS):
    """LPIPS at each pixel."""

    def map(self, original: Image, decoded: Image) -> Map:
        """Float32 H×W, at least 0; both images are uint8 H×W×3 of one size."""
        import torch

        self.prepare(self._device)
        size = _size(self.info.id, self.info.minimum_side, original, decoded)
        with full_precision():
            total = torch.zeros((1, 1, *size), device=self._device)
            # Not side by side: the first stage of VGG16 keeps the last image only.
            references = [_unit(layer) for layer in self._layers(original)]
            for reference, layer, linear in zip(references, self._layers(decoded), self._network.lins, strict=True):
                difference = linear((_unit(layer) - reference).square())
                total += torch.nn.functional.interpolate(difference, size, mode="bilinear", align_corners=False)
        return cast(Map, total[0, 0].cpu().numpy())


class DISTSMap(DISTS):
    """DISTS of the window around each pixel."""

    def map(self, original: Image, decoded: Image, window: int = WINDOW) -> Map:
        """Float32 H×W, from 0 to 1; both images are uint8 H×W×3 of one size.

        Parameters
        ----------
        window
            Side of the windows in pixels, a multiple of 32. Where one goes over the edge, its part within counts.
        """
        import torch

        self.prepare(self._device)
        height, width = _size(self.info.id, self.info.minimum_side, original, decoded)
        grid = (height // STEP + 1, width // STEP + 1)
        network = self._network
        with full_precision():
            weights = network.alpha.sum() + network.beta.sum()
            alphas = (network.alpha / weights).split(network.chns, dim=1)
            betas = (network.beta / weights).split(network.chns, dim=1)
            distance = torch.zeros((1, 1, *grid), dtype=torch.float64, device=self._device)
            references = list(self._layers(original))
            for x, y, alpha, beta in zip(references, self._layers(decoded), alphas, betas, strict=True):
                stride = max(1, round(height / x.shape[2]))  # of the layer: 1, 1, 2, 4, 8, 16
                of_layer = torch.zeros((), dtype=torch.float64, device=self._device)
                for part, other, a, b in _channels(x, y, alpha, beta):
                    texture, structure = _window_distances(part, other, window // stride, STEP // stride)
                    of_layer = of_layer + (a * texture + b * structure).sum(1, keepdim=True)
                distance += torch.nn.functional.interpolate(of_layer, grid, mode="bilinear", align_corners=True)
            whole = torch.nn.functional.interpolate(distance, (height, width), mode="bilinear", align_corners=True)
        return cast(Map, whole[0, 0].clamp(0, 1).float().cpu().numpy())


def _channels(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Some channels of all *tensors* at a time, as float64: of all at once that is too much memory."""
    for parts in zip(*(tensor.split(CHANNELS, dim=1) for tensor in tensors), strict=True):
        yield tuple(part.double() for part in parts)


def _window_distances(x: torch.Tensor, y: torch.Tensor, window: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """One minus the similarity of texture and of structure in windows of two layers, float64.

    By moments of the difference, so that of equal windows they are 0, and in float64: what is left of a plain window's
    mean of squares without the square of its mean is, in float32, nothing but rounding.
    """
    x_mean, y_mean, xx, yy, dd = (_window_mean(one, window, step) for one in (x, y, x * x, y * y, (x - y) ** 2))
    x_var, y_var = (xx - x_mean**2).clamp_(min=0), (yy - y_mean**2).clamp_(min=0)
    texture = (x_mean - y_mean) ** 2 / (x_mean**2 + y_mean**2 + STABILITY)
    structure = (dd - (x_mean - y_mean) ** 2).clamp_(min=0) / (x_var + y_var + STABILITY)
    return texture, structure


def _window_mean(layer: torch.Tensor, window: int, step: int) -> torch.Tensor:
    """Means over windows around every *step*-th position, of what lies within the layer."""
    import torch

    ones = torch.ones_like(layer[:, :1])
    # Zeros around, so that a window may be larger than the layer; their share is divided out.
    half = window // 2
    pad = (half, half, half, half)
    total, count = (
        torch.nn.functional.avg_pool2d(torch.nn.functional.pad(one, pad), 2 * half, step) for one in (layer, ones)
    )
    return total / count


def _unit(layer: torch.Tensor) -> torch.Tensor:
    import torch

    return layer / (torch.linalg.vector_norm(layer, dim=1, keepdim=True) + TINY)


def _size(metric: str, smallest: int, original: Image, decoded: Image) -> tuple[int, int]:
    shapes: list[Any] = [image.shape for image in (original, decoded)]
    if shapes[0] != shapes[1]:
        raise HvqbenchError(f"{metric}: a map needs two images of one size, not of {shapes[0]} and {shapes[1]}")
    if min(shapes[0][:2]) < smallest:
        raise HvqbenchError(f"{metric} is undefined below {smallest} pixels: leave out images as small as that")
    return int(shapes[0][0]), int(shapes[0][1])
