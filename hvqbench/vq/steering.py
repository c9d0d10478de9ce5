"""What a user asks of granularities beside a rate: their shares of the image, and a region that matters more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError

NAMES = ("coarse", "medium", "fine")


@dataclass(frozen=True)
class Steering:
    """Beside L.

    Parameters
    ----------
    shares
        Of the image that each granularity covers, from coarse to fine; None where distortion + L * bits decides.
    importance
        H×W (float32, above 0) for an image of that size: how much a pixel's distortion counts. None for 1 everywhere.
    """

    shares: tuple[float, ...] | None = None
    importance: Tensor | None = None

    def pooled(self, height: int, width: int, side: int, factor: int) -> Tensor | None:
        """The importance of cells of *side* pixels (float64) of an image padded to multiples of *factor*."""
        if self.importance is None:
            return None
        if tuple(self.importance.shape) != (height, width):
            own = "x".join(map(str, reversed(self.importance.shape)))
            raise HvqbenchError(
                f"the region of interest has {own} pixels, the image {width}x{height}; give a mask of the same size"
            )
        padding = (0, -width % factor, 0, -height % factor)
        padded = torch.nn.functional.pad(self.importance[None, None].double(), padding, mode="replicate")
        return torch.nn.functional.avg_pool2d(padded, side)[0, 0]


def read_shares(text: str) -> tuple[float, ...]:
    """``coarse=0.3,medium=0.5,fine=0.2``: any that is left out is 0.

    >>> read_shares("coarse=0.75, fine=0.25")
    (0.75, 0.0, 0.25)
    """
    shares = dict.fromkeys(NAMES, 0.0)
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        if name not in shares:
            raise HvqbenchError(f"--granularity {text!r}: {name!r} is none of {', '.join(NAMES)}")
        try:
            shares[name] = float(number)
        except ValueError:
            raise HvqbenchError(f"--granularity {text!r}: {part.strip()!r} has no number; write {name}=0.5") from None
    if not abs(sum(shares.values()) - 1) < 1e-3 or min(shares.values()) < 0:
        raise HvqbenchError(f"--granularity {text!r}: the shares add up to {sum(shares.values()):g}; make that 1")
    return tuple(shares.values())


def read_region(path: Path, weight: float) -> Tensor:
    """The importance H×W of an image whose region of interest is white in the picture *path*: *weight* there."""
    from hvqbench.image import read_image

    if not 1 <= weight < float("inf"):
        raise HvqbenchError(f"--roi-weight {weight:g}: name a number from 1 on")
    grey = read_image(path).astype(np.float32).mean(2) / 255
    return torch.from_numpy(1 + (weight - 1) * grey)
