"""A tokenizer's features of an image, put together from windows: one latent, or several of any nesting."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from hvqbench.vq.base import Features
from hvqbench.vq.tiling import Window, scaled


def tensors(features: Features) -> list[Tensor]:
    """All tensors in *features*, in order."""
    found: list[Tensor] = []
    mapped(features, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def mapped(features: Features, change: Callable[[Tensor], Tensor]) -> Features:
    """*features* with each tensor changed."""
    if isinstance(features, Tensor):
        return change(features)
    if isinstance(features, Mapping):
        return {name: mapped(part, change) for name, part in features.items()}
    if isinstance(features, tuple | list):
        return tuple(mapped(part, change) for part in features)
    raise TypeError(
        f"features may be tensors, tuples, lists and dictionaries of tensors, not {type(features).__name__}"
    )


def part_of(features: Features, place: tuple[slice, slice], rows: int) -> Features:
    """What lies at *place*, in positions of the coarsest grid, which has *rows*; finer tensors are cut accordingly."""
    return mapped(features, lambda tensor: tensor[..., *scaled(place, tensor.shape[-2] // rows)])


class Assembly:
    """Features of a whole, of *size* positions of the coarsest grid, collected window by window."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.whole: list[Tensor] = []
        self.shape: Features = None

    def add(self, window: Window, seen: Features) -> None:
        """*seen* is what the networks made of ``window.seen``."""
        rows = window.seen[0].stop - window.seen[0].start
        parts = tensors(seen)
        scales = [part.shape[-2] // rows for part in parts]
        if not self.whole:
            self.shape = seen
            for part, scale in zip(parts, scales, strict=True):
                shape = (*part.shape[:-2], self.size[0] * scale, self.size[1] * scale)
                self.whole.append(part.new_zeros(shape))
        for whole, part, scale in zip(self.whole, parts, scales, strict=True):
            whole[..., *scaled(window.kept, scale)] = part[..., *scaled(window.inner, scale)]

    def features(self) -> Features:
        """All that was added."""
        whole = iter(self.whole)
        return mapped(self.shape, lambda _: next(whole))
