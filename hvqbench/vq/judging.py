"""How much worse a place looks at a coarser granularity: the distortion by which a quadtree is split.

Grids of several resolutions live in spaces of their own, so what they lack is measured where they meet, cell by cell of
the finest grid:

``latent``
    squared distance of the painter's latent to that of all grids, everywhere.
``jacobian``
    the same, times how much the picture moves with the latent there: the squared norm of the painter's Jacobian, by one
    backward pass with random signs (Hutchinson's estimate).
``painted``
    mean absolute error of what is painted against the image.
``perceptual``
    LPIPS on AlexNet of what is painted, as a map. It descends what many judge by: judge by other metrics too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from hvqbench.errors import HvqbenchError
from hvqbench.vq.granular import GranularTokenizer
from hvqbench.vq.painted import PainterTokenizer
from hvqbench.vq.tiling import scaled, windows

Measure = Literal["latent", "jacobian", "painted", "perceptual"]
Present = Sequence[Tensor | None]
LEAST_SIDE = 64
"""Smaller pictures are repeated at their edges up to this: AlexNet's strides leave nothing of them."""


class Judge:
    """The distortion of any granularity of one image.

    Parameters
    ----------
    embeddings
        Of all grids of the pyramid, everywhere: the best that it can do.
    image
        1×3×H×W in [-1, 1], padded to the tokenizer's factor.
    measure
        See the module.
    tile
        As in :func:`hvqbench.vq.tiling.windows`.
    """

    def __init__(
        self,
        tokenizer: GranularTokenizer,
        embeddings: Sequence[Tensor],
        image: Tensor,
        measure: Measure,
        tile: int | None = None,
    ) -> None:
        inner = tokenizer.inner
        self.inner, self.image, self.measure, self.tile = inner, image, measure, tile
        self.finest = inner.grids[-1].factor
        self.care: Tensor | None = None
        if measure == "perceptual":
            self.seen = _layers(image)
        if measure in ("painted", "perceptual"):
            return
        if not isinstance(inner, PainterTokenizer):
            raise HvqbenchError(
                f"distortion {measure!r} is for tokenizers around the painter: use distortion = 'painted'"
            )
        self.compose = inner.compose
        self.best = self._windowed(self.compose, embeddings, ())
        if measure == "jacobian":
            self.care = self._windowed(self._sensitivity, embeddings, ())[0, 0].cpu()

    def error(self, embeddings: Sequence[Tensor], present: Present = ()) -> Tensor:
        """Distortion h×w (float64, on the CPU) of each cell of the finest grid when those first grids are sent."""
        if self.measure in ("painted", "perceptual"):
            painted = self._windowed(self.inner.paint, embeddings, present).clamp(-1, 1)
            apart = (painted - self.image).abs().mean(1, keepdim=True)
            if self.measure == "perceptual":
                apart = self._lpips(painted)
            return functional.avg_pool2d(apart, self.finest)[0, 0].double().cpu()
        latent = self._windowed(self.compose, embeddings, present)
        apart = (latent - self.best).square().sum(1)[0].double().cpu()
        return apart if self.care is None else apart * self.care

    def _lpips(self, painted: Tensor) -> Tensor:
        """1×1×H×W: the differences of each layer, enlarged to the image and added."""
        total = torch.zeros_like(painted[:, :1])
        for weigh, there, here in zip(_alexnet(str(painted.device)).lins, self.seen, _layers(painted), strict=True):
            apart = weigh((there - here).square())
            total += functional.interpolate(apart, painted.shape[-2:], mode="bilinear", align_corners=False)
        return total

    def _sensitivity(self, embeddings: Sequence[Tensor], present: Present) -> Tensor:
        """1×1×h×w: mean squared change of a pixel for a unit change of the painter's latent."""
        assert isinstance(self.inner, PainterTokenizer)
        with torch.inference_mode(False), torch.enable_grad():
            latent = self.inner.compose([part.clone() for part in embeddings], present).detach().clone()
            painted = self.inner.decoder(latent.requires_grad_())
            rng = torch.Generator(painted.device).manual_seed(0)
            signs = torch.randint(0, 2, painted.shape, generator=rng, device=painted.device) * 2.0 - 1
            (gradient,) = torch.autograd.grad((painted * signs).sum(), latent)
        return gradient.square().mean(1, keepdim=True)

    def _windowed(
        self, make: Callable[[Sequence[Tensor], Present], Tensor], embeddings: Sequence[Tensor], present: Present
    ) -> Tensor:
        """What *make* gives for the whole, window by window."""
        size = (embeddings[0].shape[-2], embeddings[0].shape[-1])
        scales = [part.shape[-2] // size[0] for part in embeddings]
        whole: Tensor | None = None
        for window in windows(self.inner, size, self.tile):
            places = [scaled(window.seen, scale) for scale in scales]
            seen = [part[..., *place] for part, place in zip(embeddings, places, strict=True)]
            there = [None if part is None else part[..., *place] for part, place in zip(present, places, strict=False)]
            made = make(seen, there)
            scale = made.shape[-2] // (window.seen[0].stop - window.seen[0].start)
            if whole is None:
                whole = made.new_zeros(*made.shape[:2], size[0] * scale, size[1] * scale)
            whole[..., *scaled(window.kept, scale)] = made[..., *scaled(window.inner, scale)]
        assert whole is not None
        return whole


@functools.cache
def _alexnet(device: str) -> Any:
    from hvqbench.metrics.perceptual import PerceptualLoss

    with torch.inference_mode(False):  # its weights are shared with those who learn through it
        return PerceptualLoss("alex").to(device).network


def _layers(image: Tensor) -> list[Tensor]:
    """What AlexNet sees in 1×3×H×W, layer by layer, each position of length 1."""
    network = _alexnet(str(image.device))
    right, below = (max(0, LEAST_SIDE - side) for side in (image.shape[-1], image.shape[-2]))
    seen = network.net(network.scaling_layer(functional.pad(image, (0, right, 0, below), mode="replicate")))
    return [layer / (layer.square().sum(1, keepdim=True).sqrt() + 1e-10) for layer in seen]
