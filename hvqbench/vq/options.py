"""The options of a VQ codec, as a value that is read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hvqbench.errors import HvqbenchError


@dataclass(frozen=True)
class VQOptions:
    """The table ``[options]`` of a ``codec.toml``, with paths relative to it.

    Parameters
    ----------
    tokenizer
        Folder with ``tokenizer.safetensors``, a model of another library, or a class (:mod:`hvqbench.vq.loading`).
    index_model
        A name of :data:`hvqbench.vq.models.INDEX_MODELS`, or ``package.module:Class``.
    weights
        The index model's file; none for ``fixed``.
    frequencies
        Training-set counts, with which an image is sent where that is shorter; optional.
    stages
        At most so many of the tokenizer's grids are sent; all by default.
    tile
        Side in pixels of the pieces in which the tokenizer's networks see an image, so that memory does not follow its
        size. By default they see an image of ordinary size all at once (:mod:`hvqbench.vq.tiling`).
    search
        Steps of gradient descent by which the encoder improves an image's latent (:mod:`hvqbench.vq.search`).
    precision
        Of the networks whose output does not set probabilities.
    """

    tokenizer: str
    index_model: str
    weights: str = ""
    frequencies: str = ""
    stages: int | None = None
    tile: int | None = None
    search: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        for name, least in (("stages", 1), ("tile", 1), ("search", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise HvqbenchError(f"option {name} = {value} is no whole number from {least} on; correct codec.toml")
