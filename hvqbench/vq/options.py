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
    router
        Makes a pyramid tokenizer one of granularities (:mod:`hvqbench.vq.granular`), and says who splits: ``rd`` or
        ``entropy`` (:mod:`hvqbench.vq.routing`).
    distortion
        By which ``rd`` does: ``latent``, ``jacobian``, ``painted`` or ``perceptual`` (:mod:`hvqbench.vq.judging`).
    precision
        Of the networks whose output does not set probabilities.
    point
        What an operating point is: L, the ``weight`` of a bit, or the number of ``slices`` that are sent.
    ladder
        Pairs (L, T) of points that are a weight: from each L on only the first T slices of the index model are sent.
        The decoder completes the others by what the model expects.
    passes
        After choosing what is sent, choose again that often with a view of what each choice does to what follows.
    seed
        With one, what is not sent is not completed by the likeliest symbols but by a sample: 0 to 2³² - 1.
    """

    tokenizer: str
    index_model: str
    weights: str = ""
    frequencies: str = ""
    stages: int | None = None
    tile: int | None = None
    search: int = 0
    router: Literal["", "rd", "entropy"] = ""
    distortion: Literal["latent", "jacobian", "painted", "perceptual"] = "latent"
    precision: Literal["float32", "bfloat16"] = "float32"
    point: Literal["weight", "slices"] = "weight"
    ladder: tuple[tuple[float, int], ...] = ()
    passes: int = 0
    seed: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("stages", 1), ("tile", 1), ("search", 0), ("passes", 0), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise HvqbenchError(f"option {name} = {value} is no whole number from {least} on; correct codec.toml")
        if self.seed is not None and self.seed >= 2**32:
            raise HvqbenchError(f"option seed = {self.seed} takes more than 32 bits; correct codec.toml")
        weights, slices = [weight for weight, _ in self.ladder], [count for _, count in self.ladder]
        if weights != sorted(set(weights)) or slices != sorted(slices, reverse=True) or min(slices, default=1) < 1:
            raise HvqbenchError(
                "option ladder has no pairs (L, T) with rising L and no rising T, all T from 1 on; correct codec.toml"
            )

    def slices(self, point: float) -> int | None:
        """How many slices are sent at *point*; None for all of them."""
        if self.point == "slices":
            return int(point)
        return next((count for weight, count in reversed(self.ladder) if weight <= point), None)
