"""What LPIPS (VGG16) and DISTS share of VGG16: relu1_2, computed once for both.

Up to there the two networks are one: the same convolutions on the same normalised pixels, since LPIPS' shift and scale
of [-1, 1] are ImageNet's mean and deviation of [0, 1]. Then LPIPS takes a maximum and DISTS an L2 mean, and nothing
is equal any more. It is an eighth of either network's multiplications, and more of its time: its maps are the largest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

    from hvqbench.codec import Image

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1]."""

_stages: dict[str, FirstStage] = {}
"""One for each device."""


class FirstStage:
    """relu1_2 of an image; that of the last one is kept until another image comes."""

    def __init__(self, layers: Any, device: str) -> None:
        self._layers = layers
        self._device = device
        self._last: tuple[Image, torch.Tensor] | None = None

    def __call__(self, image: Image) -> torch.Tensor:
        """Float32, 1×64×H×W, channels last; not to be written to."""
        if self._last is None or not np.array_equal(self._last[0], image):
            self._last = None  # its memory first
            self._last = image.copy(), self._layers(self._normalised(image))
        return self._last[1]

    def _normalised(self, image: Image) -> torch.Tensor:
        import torch

        mean, deviation = (torch.tensor(values, device=self._device)[:, None, None] for values in (MEAN, DEVIATION))
        return (to_tensor(image, self._device) / 255 - mean) / deviation


def first_stage(device: str) -> FirstStage:
    """The one of this process on *device*."""
    if device not in _stages:
        from hvqbench.metrics.networks import channels_last, lpips_network

        _stages[device] = FirstStage(channels_last(lpips_network("vgg").net.slice1).to(device), device)
    return _stages[device]


def to_tensor(image: Image, device: str) -> torch.Tensor:
    """uint8 H×W×3 as float32 1×3×H×W in [0, 255], channels last, as an image lies in memory."""
    import torch

    return torch.tensor(image, device=device).permute(2, 0, 1)[None].float()
