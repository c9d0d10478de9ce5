"""HyperVQ as an index model: z in front, then every index under the integer PEE, in one range coder.

Stage by stage, and within a stage in one pass, or with context in two: the positions with even row + column first, then
the others, which see them. A pass is coded in blocks of positions that bound memory and leave no trace in the bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from hvqbench.errors import HvqbenchError
from hvqbench.timing import span
from hvqbench.vq.base import BaseTokenizer
from hvqbench.vq.hyperprior import Z_LIMIT, Context, Hyperprior, first_pass
from hvqbench.vq.index_models import Choose, RangeCoded, Size, Step, check_tokenizer
from hvqbench.vq.integer import ANCHOR_BITS, IntegerContext, IntegerPEE, IntegerSynthesis
from hvqbench.vq.range_coder import RangeDecoder, RangeEncoder, code_length

BLOCK = 2**19
"""Weights held at a time: 4 MB, which a cache holds."""


class HyperpriorModel(RangeCoded):
    """The hyperprior of *path*, trained for *tokenizer*."""

    def __init__(self, path: Path, tokenizer: BaseTokenizer) -> None:
        self.model, frequencies, trained_for = Hyperprior.load(path)
        check_tokenizer(path, trained_for, tokenizer)
        config, bias = self.model.config, self.model.bias.detach()
        if config.head != "anchor":
            raise HvqbenchError(f"{path} has a {config.head} head, which cannot code; train it with head = 'anchor'")
        self.synthesis = IntegerSynthesis(self.model)
        self.pees = [IntegerPEE(*stage) for stage in zip(tokenizer.codebooks.cpu(), bias, strict=True)]
        largest = sum(float(pee.anchors.abs().max()) for pee in self.pees)  # of what all stages add up to
        self.contexts = []
        if config.context:
            self.contexts = [IntegerContext(cast(Context, context), largest) for context in self.model.context]
        self.z_weights = frequencies.double()
        self.block = max(1, BLOCK // config.codewords)

    @torch.inference_mode()
    def side(self, embedding: Tensor) -> Tensor:
        """z of the embedding 1×D×h×w: integers C×⌈h/4⌉×⌈w/4⌉ (float32)."""
        with span("h-analysis"):
            return self.model.analyse(embedding).round()[0]

    def put_side(self, encoder: RangeEncoder, side: Tensor) -> dict[str, float]:
        bits = 0.0
        with span("z"):
            for symbols, weights in zip(side.flatten(1).long() + Z_LIMIT, self.z_weights, strict=True):
                encoder.put(symbols, weights[None])
                bits += code_length(weights[None], symbols)
        return {"z": bits}

    def get_side(self, decoder: RangeDecoder, size: Size) -> Tensor:
        height, width = (-(-side // 4) for side in size)
        with span("z"):
            rows = [decoder.get(weights[None], height * width) for weights in self.z_weights]
        return torch.stack(rows).view(-1, height, width) - Z_LIMIT

    def walk(self, side: Tensor, size: Size, stages: int, code: Choose) -> Iterator[None]:
        with span("h-synthesis"):
            features, base = self.synthesis(side, size)
        passes = self._passes(size)
        dim = self.model.config.dim
        # Embedding known at each position, from all stages so far, and below it this stage's mask.
        known = torch.zeros(dim + 1, size[0] * size[1], dtype=torch.float64)
        for stage, pee in enumerate(self.pees[:stages]):
            known[dim] = 0
            before = known[:dim].clone()
            for number, positions in enumerate(passes):
                parameters = base[2 * dim * stage : 2 * dim * (stage + 1), positions]
                if self.contexts and (stage or number):  # in the very first pass nothing is known
                    with span("context"):
                        parameters = parameters + self.contexts[stage](features, known.view(-1, *size), positions)
                mean = (parameters[:dim] - before[:, positions]).T
                blocks = (part.split(self.block) for part in (positions, mean, parameters[dim:].T))
                for block, *parts in zip(*blocks, strict=True):
                    with span("pee"):
                        weights = pee.weights(*parts)
                    symbols = code(Step(stage, block, weights))
                    known[:dim, block] += pee.anchors[symbols].T
                known[dim, positions] = 2**ANCHOR_BITS
            yield

    def _passes(self, size: Size) -> list[Tensor]:
        """The positions (int64) of each pass; a map of one position has no second."""
        if not self.contexts:
            return [torch.arange(size[0] * size[1])]
        first = first_pass(size).flatten()
        return [positions for positions in (first.nonzero()[:, 0], (~first).nonzero()[:, 0]) if len(positions)]
