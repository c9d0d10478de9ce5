"""Metrics of the pixels themselves: PSNR and MS-SSIM, over all three channels of sRGB."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hvqbench.codec import Image
from hvqbench.metrics.base import Metric

if TYPE_CHECKING:
    import torch


class PSNR(Metric):
    """10 log10(255² / MSE), the MSE over all pixels and the three channels; infinite for equal images.

    A mean over images is the mean of their PSNRs, and is infinite if one is.
    """

    def _features(self, image: Image) -> NDArray[np.int32]:
        return image.astype(np.int32)

    def _score(self, features: NDArray[np.int32], image: Image) -> float:
        squares = int(((features - image) ** 2).sum(dtype=np.int64))  # exact, whatever the order of summation
        return 10 * math.log10(255**2 * image.size / squares) if squares else math.inf


class MSSSIM(Metric):
    """Multi-scale SSIM (Wang et al., Asilomar 2003), computed per channel and averaged; a plain number, not in dB.

    Five scales of an 11×11 window need more than 160 pixels on the short side.
    """

    def _features(self, image: Image) -> torch.Tensor:
        import torch

        return torch.tensor(image).permute(2, 0, 1)[None].float()

    def _score(self, features: torch.Tensor, image: Image) -> float:
        import torch
        from pytorch_msssim import ms_ssim

        with torch.inference_mode():
            return float(ms_ssim(features, self._features(image), data_range=255))
