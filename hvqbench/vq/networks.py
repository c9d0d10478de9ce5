"""A tokenizer's networks on pictures: uint8 pixels to features and maps to pixels, in tiles, at a precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hvqbench.codec import Image
from hvqbench.timing import span
from hvqbench.vq.base import BaseTokenizer, Features
from hvqbench.vq.features import Assembly, mapped
from hvqbench.vq.search import searched
from hvqbench.vq.tiling import padded, scaled, windows


@dataclass(frozen=True)
class Networks:
    """Those of *tokenizer*, on its *device*.

    Parameters
    ----------
    tile
        Side in pixels of the pieces in which an image is seen; by default an image of ordinary size is seen whole.
    bfloat16
        Whether they run in bfloat16 instead of float32.
    """

    tokenizer: BaseTokenizer
    device: str = "cpu"
    tile: int | None = None
    bfloat16: bool = False

    @torch.inference_mode()
    def features(self, image: Image) -> Features:
        """What the tokenizer makes of an image before quantization, edges replicated to multiples of its factor."""
        factor = self.tokenizer.factor
        with self._precision(), span("tokenizer-encode"):
            whole = padded(image, factor)
            assembly = Assembly((whole.shape[0] // factor, whole.shape[1] // factor))
            for window in windows(self.tokenizer, assembly.size, self.tile):
                pixels = self._tensor(whole[scaled(window.seen, factor)])
                assembly.add(window, mapped(self.tokenizer.encode(pixels), lambda part: part.float()))
            return assembly.features()

    def searched(self, image: Image, features: Features, steps: int) -> Features:
        """Features that paint *image* better, after *steps* of gradient descent (:mod:`hvqbench.vq.search`)."""
        with span("search"):
            return searched(self.tokenizer, self.pixels(image), features, steps, self.tile)

    @torch.inference_mode()
    def paint(self, maps: Sequence[Tensor]) -> Image:
        """Maps h×w of the first grids to pixels (uint8, H×W×3, sides padded); values are rounded, not truncated."""
        tokenizer, factor = self.tokenizer, self.tokenizer.factor
        scales = [factor // spec.factor for spec in tokenizer.grids[: len(maps)]]
        height, width = (side // scales[0] for side in maps[0].shape)
        image = np.empty((height * factor, width * factor, 3), np.uint8)
        with self._precision(), span("tokenizer-decode"):
            for window in windows(tokenizer, (height, width), self.tile):
                places = zip(maps, scales, strict=True)
                seen = [part[scaled(window.seen, scale)].to(self.device)[None] for part, scale in places]
                out = tokenizer.decode(seen)[0].float()
                pixels = ((out[..., *scaled(window.inner, factor)] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
                image[scaled(window.kept, factor)] = pixels.permute(1, 2, 0).cpu().numpy()
        return image

    def pixels(self, image: Image) -> Tensor:
        """An image as a batch of one, 1×3×H×W in [-1, 1], on the device, sides padded."""
        return self._tensor(padded(image, self.tokenizer.factor))

    def _tensor(self, pixels: Image) -> Tensor:
        batch = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1)[None]
        return (batch.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.split(":")[0], dtype=torch.bfloat16, enabled=self.bfloat16)
