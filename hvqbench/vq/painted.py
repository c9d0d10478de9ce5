"""Our tokenizers: the painter's encoder, a bottleneck with its codebooks, the painter's decoder.

An image (B×3×H×W, values in [-1, 1], sides multiples of ``factor``) becomes the painter's latent. Grid by grid, from
coarse to fine, the bottleneck says what to quantise, and each vector is replaced by its nearest codebook entry (VQ-VAE,
arXiv 1711.00937). The decoder paints the image from those entries alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from hvqbench.vq.base import BaseTokenizer, entries, grid_specs
from hvqbench.vq.bottleneck import Bottleneck, BottleneckConfig
from hvqbench.vq.distance import nearest
from hvqbench.vq.painter import FACTOR, PainterDecoder, PainterEncoder
from hvqbench.vq.weights import eight_bit, full_precision, load_weights, save_weights, sha256


class PainterTokenizer(BaseTokenizer):
    """See the module; ``codebooks`` is G×K×D for G grids, ``digest`` the sha256 of the file."""

    codebooks: Tensor

    def __init__(self, config: BottleneckConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.bottleneck, self.decoder = PainterEncoder(), Bottleneck(config), PainterDecoder()
        self.register_buffer("codebooks", torch.zeros(len(config.grids), config.codewords, config.dim))
        self.grids, self.factor = grid_specs(config.grids), config.grids[0]
        # What the coarser levels leave is seen by the targets of the finer ones.
        finest = config.levels[-1][0]
        self.painting = (f"bottleneck.merge.{finest}.", f"bottleneck.leave.{finest}.", "decoder.")
        self._last: tuple[Tensor, dict[int, Tensor]] | None = None

    @property
    def reach(self) -> int:
        into, out = FACTOR * self.encoder.reach, FACTOR * self.decoder.reach + self.bottleneck.reach
        return math.ceil(max(into, out) / self.factor)

    def encode(self, image: Tensor) -> Tensor:
        """Image B×3×H×W in [-1, 1] to the painter's latent B×32×H/8×W/8."""
        return self.encoder(image)

    def target(self, features: Tensor, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        """What the next grid quantizes, given the painter's latent and the entries of the grids before it."""
        walk = Descent(self.bottleneck, features, below=self._below(features))
        for number, sent in enumerate(embeddings):
            walk.send(sent, present[number] if number < len(present) else None)
        return walk.target()

    def _below(self, latent: Tensor) -> dict[int, Tensor] | None:
        """Each level's features of *latent*, kept for the next grid and the next try; None where something learns."""
        if torch.is_grad_enabled():
            return None
        if self._last is None or self._last[0] is not latent:
            self._last = latent, self.bottleneck.features(latent.float())
        return self._last[1]

    def quantize(self, features: Tensor) -> list[Tensor]:
        """The nearest codewords, grid after grid, in one way down: maps B×h×w (int64)."""
        walk, maps = Descent(self.bottleneck, features), []
        for codebook in self.codebooks:
            target = walk.target().float()
            chosen = nearest(target.permute(0, 2, 3, 1).flatten(0, 2), codebook)
            maps.append(chosen.view(len(target), *target.shape[2:]))
            walk.send(entries(maps[-1], codebook))
        return maps

    def compose(self, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        """Entries B×D×h×w of the first grids to the painter's latent.

        *present* has for each of them the positions B×1×h×w that were sent, or None for all.
        """
        walk = Descent(self.bottleneck, None, embeddings[0])
        for number, sent in enumerate(embeddings):
            walk.send(sent, present[number] if number < len(present) else None)
        return walk.finish()

    def paint(self, embeddings: Sequence[Tensor], present: Sequence[Tensor | None] = ()) -> Tensor:
        """As :meth:`compose`, to the image B×3×H×W, about [-1, 1]; differentiable."""
        return self.decoder(self.compose(embeddings, present))

    def save(self, path: Path) -> None:
        """Write weights (8 bits; codebooks in fp32, because their digits decide indices) and configuration."""
        tensors = eight_bit(self.state_dict()) | {"codebooks": self.codebooks}
        save_weights(path, tensors, {"painter": json.dumps(asdict(self.config))})

    @classmethod
    def load(cls, path: Path) -> PainterTokenizer:
        """Read what :meth:`save` wrote."""
        tensors, metadata = load_weights(path, "painter")
        values = json.loads(metadata["painter"])
        tokenizer = cls(BottleneckConfig(**values | {"grids": tuple(values["grids"])}))
        tokenizer.load_state_dict(full_precision(tensors))
        tokenizer.digest = sha256(path)
        return tokenizer.eval()


class Descent:
    """One way down the grids of a bottleneck, coarse to fine.

    At each grid :meth:`target` says what it should quantise, where there is a *latent* to code, and :meth:`send` takes
    what was chosen; :meth:`finish` gives the painter's latent, the grids that were not sent absent. Without a latent,
    *like* (B×D×h×w of the coarsest grid) gives batch, size and type. *below* are the latent's features, if known.
    """

    def __init__(
        self,
        bottleneck: Bottleneck,
        latent: Tensor | None,
        like: Tensor | None = None,
        below: dict[int, Tensor] | None = None,
    ) -> None:
        self.bottleneck, config = bottleneck, bottleneck.config
        self.features = bottleneck.features(latent.float()) if latent is not None and below is None else below
        coarsest = config.grids[0]
        if latent is not None:
            batch, shrink = len(latent), coarsest // FACTOR
            self.size = (latent.shape[2] // shrink, latent.shape[3] // shrink)
        else:
            assert like is not None
            batch, self.size = len(like), (like.shape[2], like.shape[3])
        some = latent if like is None else like
        assert some is not None
        self._zeros = some.new_zeros
        self.batch, self.coarsest = batch, coarsest
        self.levels = list(config.levels)
        self.state: Tensor | None = None
        self._begin_level()

    def _begin_level(self) -> None:
        factor = self.levels[0][0]
        scale = self.coarsest // factor
        height, width = self.size[0] * scale, self.size[1] * scale
        self.sum = self._zeros((self.batch, self.bottleneck.config.dim, height, width))
        self.mask: Tensor | None = None
        self.stages_left = self.levels[0][1]
        self._first: Tensor | None = None

    def target(self) -> Tensor:
        """B×D×h×w for the next grid; of residual stages what those before left."""
        assert self.features is not None
        if self._first is None:
            factor = self.levels[0][0]
            self._first = self.bottleneck.target(factor, self.features[factor], self.state)
        return self._first - self.sum

    def send(self, entries: Tensor, present: Tensor | None = None) -> None:
        """The next grid's entries B×D×h×w, and at which positions (B×1×h×w) they were sent; None for all."""
        shown = torch.ones_like(entries[:, :1]) if present is None else present.to(entries.dtype)
        self.sum = self.sum + entries * shown
        self.mask = shown if self.mask is None else self.mask
        self.stages_left -= 1
        if not self.stages_left:
            self._advance()

    def _advance(self) -> None:
        factor, _ = self.levels.pop(0)
        mask = torch.zeros_like(self.sum[:, :1]) if self.mask is None else self.mask
        self.state = self.bottleneck.advance(factor, self.sum, mask, self.state)
        if self.levels:
            self._begin_level()

    def finish(self) -> Tensor:
        """The painter's latent B×32×h×w."""
        while self.levels:
            self._advance()
        assert self.state is not None
        return self.state
