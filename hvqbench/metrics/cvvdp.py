"""ColorVideoVDP (Mantiuk et al., SIGGRAPH 2024) through the authors' package ``cvvdp``, an extra.

It models what an eye sees on a monitor at a distance, so it needs no network and no weights, and it keeps its meaning
at rates where a network that was trained on mild distortions has none. The video codecs' AV2 test conditions have it
beside LPIPS and DISTS. The display is part of the metric: ``standard_4k``, the package's default, a 30-inch 4K monitor
of 200 cd/m² that is seen from 0.74 m.

The package's own function is called with the 8-bit pixels, which it takes for sRGB, as the display says.
"""

from __future__ import annotations

from typing import Any

from hvqbench.codec import Image
from hvqbench.errors import UnavailableError
from hvqbench.metrics.base import Metric

INSTALL = "pip install 'hvqbench[cvvdp]'"


class ColorVideoVDP(Metric):
    """Quality in JOD: 10 for equal images, and a step less for what three of four people notice as worse."""

    _model: Any = None
    _device = "cpu"

    def prepare(self, device: str = "cpu") -> None:
        if self._model is None or device != self._device:
            try:
                import pycvvdp
                import torch
            except ImportError as error:
                raise UnavailableError(f"the package cvvdp cannot be imported ({error}): run `{INSTALL}`") from None
            display = self.info.options["display"]
            self._model = pycvvdp.cvvdp(display_name=display, device=torch.device(device), quiet=True)
            self._device = device

    def _features(self, image: Image) -> Image:
        return image  # the package compares two images, and keeps nothing of one

    def _score(self, features: Image, image: Image) -> float:
        self.prepare(self._device)
        quality, _ = self._model.predict(image, features, dim_order="HWC")
        return float(quality)
