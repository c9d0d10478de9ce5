"""A tokenizer of a user's own: a plain class that knows nothing of this package, behind the contract of all others.

It has ``factor`` (pixels a side of one position), ``codebook`` (K×D, or S×K×D of a residual quantizer),
``encode(image)`` (B×3×H×W in [-1, 1], sides multiples of the factor) and ``decode(indices)`` (to the image). ``encode``
gives the latent B×D×h×w before quantization, or the indices (B×h×w, or B×S×h×w). With a latent there is rate control;
with indices alone they are what is sent. Of a torch ``nn.Module`` all weights count: index models are bound to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hvqbench.errors import HvqbenchError
from hvqbench.sources import import_file
from hvqbench.vq.base import BaseTokenizer, Features, entries, grid_specs
from hvqbench.vq.distance import coding_scale

WANTED = ("factor", "codebook", "encode", "decode")


class OwnTokenizer(BaseTokenizer):
    """*model*, an object of a user's class that errors call *name*."""

    codebooks: Tensor

    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        if missing := [attribute for attribute in WANTED if not hasattr(model, attribute)]:
            raise HvqbenchError(f"{name} has no {missing[0]!r}; a tokenizer has {', '.join(WANTED)}")
        codebook = torch.as_tensor(model.codebook).detach().float()
        if codebook.ndim not in (2, 3) or codebook.numel() == 0:
            raise HvqbenchError(f"{name}: codebook is {tuple(codebook.shape)}; make it K×D, or S×K×D for S stages")
        if not isinstance(model.factor, int) or model.factor < 1:
            raise HvqbenchError(f"{name}: factor = {model.factor!r} is no whole number of pixels from 1")
        self.model, self.name, self.factor = model, name, model.factor
        self.single = codebook.ndim == 2
        self.scale = coding_scale(codebook)
        stack = codebook[None] if self.single else codebook
        self.register_buffer("codebooks", stack * self.scale)
        self.grids = grid_specs([model.factor] * len(stack))
        self.digest = _digest(self)

    @property
    def reach(self) -> int | None:
        return getattr(self.model, "reach", None)

    def encode(self, image: Tensor) -> Features:
        found = self.model.encode(image)
        batch, (height, width) = len(image), (side // self.factor for side in image.shape[-2:])
        latent = (batch, self.codebooks[0].shape[1], height, width)
        indices = (batch, height, width) if self.single else (batch, len(self.codebooks), height, width)
        self.continuous = bool(found.is_floating_point())
        wanted = latent if self.continuous else indices
        if tuple(found.shape) != wanted:
            kind = "a latent" if self.continuous else "indices"
            raise HvqbenchError(
                f"{self.name}.encode gives {kind} of {tuple(found.shape)} for an image of {tuple(image.shape)}; "
                f"make it {wanted}"
            )
        if self.continuous:
            return found * self.scale
        return found[:, None] if self.single else found

    def target(self, features: Features, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        if self.continuous:
            return super().target(features, embeddings)
        level = len(embeddings)
        return entries(features[:, level].long(), self.codebooks[level])

    def quantize(self, features: Features) -> list[Tensor]:
        if self.continuous:
            return super().quantize(features)
        return [part.long() for part in features.unbind(1)]

    def paint(self, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        raise HvqbenchError(f"{self.name} paints from indices, so its latent cannot be searched: remove search")

    def decode(self, maps: Sequence[Tensor]) -> Tensor:
        painted = self.model.decode(maps[0] if self.single else torch.stack(list(maps), 1))
        size = (len(maps[0]), 3, *(side * self.factor for side in maps[0].shape[-2:]))
        if tuple(painted.shape) != size:
            raise HvqbenchError(f"{self.name}.decode gives {tuple(painted.shape)} instead of an image {size}")
        return painted.clamp(-1, 1)

    @classmethod
    def load(cls, name: str, base: Path) -> BaseTokenizer:
        """The class that *name* says (:func:`hvqbench.vq.loading.is_own`), a file's relative to *base*.

        One that is a :class:`~hvqbench.vq.base.BaseTokenizer` itself, as with grids of several factors, stays as it is.
        """
        place, _, attribute = name.rpartition(":")
        if place.endswith(".py"):
            found = getattr(import_file(base / place), attribute, None)
        else:
            from hvqbench.catalog import load_object

            found = load_object(name)
        if not callable(found):
            raise HvqbenchError(f"{base / place} has no class {attribute!r}; correct the name of the tokenizer")
        model = found()
        if isinstance(model, nn.Module):
            model.eval().requires_grad_(False)
        return model if isinstance(model, BaseTokenizer) else cls(model, name).eval()


def _digest(tokenizer: OwnTokenizer) -> str:
    """Of all tensors by name."""
    whole = hashlib.sha256()
    for key, tensor in sorted(tokenizer.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        whole.update(f"{key} {values.dtype} {tuple(values.shape)}".encode())
        whole.update(values.view(torch.uint8).numpy().tobytes() if values.ndim else str(values.item()).encode())
    return whole.hexdigest()
