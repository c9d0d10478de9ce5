"""Hyperpriors of a tokenizer: one for each run of grids of one size, from coarse to fine.

A tokenizer of one resolution has a single one. In a pyramid each resolution has a z and networks of its own, and where
they are *conditional* a finer one sees the embeddings of all coarser ones, repeated up to its size, as it sees those of
its own first pass. This is what trains and what is stored; :mod:`hvqbench.vq.models.hyperprior_coding` codes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor, nn

from hvqbench.vq.base import BaseTokenizer, entries
from hvqbench.vq.models.hyperprior import Hyperprior, HyperpriorConfig
from hvqbench.vq.pee import RateMode
from hvqbench.vq.weights import load_weights, save_weights

QUICK = ("z_mean", "z_log_scale", "bias")
"""Parameters of a hyperprior that start at good values but move slowly on the networks' learning rate."""


class Hyperpriors(nn.Module):
    """The hyperpriors of a tokenizer, the coarsest first."""

    def __init__(self, configs: Sequence[HyperpriorConfig]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(Hyperprior(config) for config in configs)

    @classmethod
    def of(cls, tokenizer: BaseTokenizer, conditional: bool = True, **shape: Any) -> Self:
        """For *tokenizer*; *shape* holds keys of :class:`HyperpriorConfig` that it does not set."""
        configs, given = [], 0
        for levels in runs([spec.factor for spec in tokenizer.grids]):
            codewords, dim = tokenizer.codebooks[levels[0]].shape
            configs.append(HyperpriorConfig(dim, codewords, len(levels), given=given, **shape))
            given += dim if conditional else 0
        return cls(configs)

    def __iter__(self) -> Iterator[Hyperprior]:
        return iter(cast("list[Hyperprior]", list(self.parts)))

    @property
    def configs(self) -> list[HyperpriorConfig]:
        return [part.config for part in self]

    def start(self, counts: Sequence[Tensor], codebooks: Sequence[Tensor]) -> None:
        """Begin near the static code of *counts* (K for each grid)."""
        for part, (own, books) in zip(self, self._split(counts, codebooks), strict=True):
            part.start_static(torch.stack(list(own)), torch.stack(list(books)))

    def start_level(self, level: int) -> None:
        """Let a grid, of a residual quantizer's not the first, begin with what the one before it has learned."""
        if len(self.parts) == 1:
            next(iter(self)).start_stage(level)

    def levels(self, done: float) -> int:
        """How many grids count when z's price is *done* of its full height.

        Stages of one z join one after the other: what all of them have to say about z at first is noise.
        """
        stages = sum(config.stages for config in self.configs)
        return min(stages, 1 + int(done * stages)) if len(self.parts) == 1 else stages

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What learns, in groups with a ``factor`` of the learning rate, the quick ones not clipped."""
        named = [(name, p) for part in self for name, p in part.named_parameters() if p.requires_grad]
        networks, quick = ([p for name, p in named if (name in QUICK) == chosen] for chosen in (False, True))
        return [
            {"params": networks, "factor": 1.0},
            {"params": quick, "factor": 5.0, "weight_decay": 0.0, "clip": False},
        ]

    def bits(
        self,
        maps: Sequence[Tensor],
        codebooks: Sequence[Tensor],
        share: float = 1.0,
        targets: Sequence[Tensor] = (),
        mode: RateMode = "hard",
    ) -> dict[str, Any]:
        """Code length of *maps* (B×h×w of the first grids): ``z`` in all, and ``indices``, bits of each for each grid.

        Of a random *share* of each grid's positions only, where it is below 1. With *targets*, what the first grid of
        each resolution quantises (B×D×h×w), the gradient reaches those as *mode* says
        (:func:`hvqbench.vq.pee.code_length`).
        """
        z = torch.zeros((), device=maps[0].device)
        given: Tensor | None = None
        bits: list[Tensor] = []
        for number, (part, (own, books)) in enumerate(zip(self, self._split(maps, codebooks), strict=True)):
            if not own:
                break
            target = targets[number] if targets else None
            indices, stack = torch.stack(list(own), 1), torch.stack(list(books)).detach()
            seen = upsampled(given, indices.shape[-2:]) if part.config.given and given is not None else None
            kept = _some(indices[:, 0].numel(), share, z.device)
            of_indices, of_z = part(target, indices, stack, mode, kept=kept, given=seen)
            z, bits = z + of_z, [*bits, *of_indices]
            embedding = torch.stack([entries(*pair) for pair in zip(own, stack, strict=False)]).sum(0)
            given = embedding if given is None else torch.cat([upsampled(given, indices.shape[-2:]), embedding], 1)
        return {"z": z, "indices": bits}

    def _split(self, *values: Sequence[Any]) -> Iterator[tuple[Sequence[Any], ...]]:
        """Values of each grid, by part."""
        first = 0
        for part in self:
            yield tuple(value[first : first + part.config.stages] for value in values)
            first += part.config.stages

    def save(self, path: Path, tokenizer: str) -> None:
        """Write weights for the tokenizer with that digest."""
        if len(self.parts) == 1:
            next(iter(self)).save(path, tokenizer)
            return
        tensors = {f"{i}.{name}": t for i, part in enumerate(self) for name, t in part.tensors().items()}
        configs = json.dumps([asdict(config) for config in self.configs])
        save_weights(path, tensors, {"hyperpriors": configs, "tokenizer": tokenizer})

    @classmethod
    def load(cls, path: Path) -> tuple[Self, list[Tensor], str]:
        """The networks, z's integer frequencies for each, and the digest of the tokenizer that they belong to."""
        tensors, metadata = load_weights(path, "tokenizer")
        if "hyperpriors" not in metadata:
            single, frequencies, tokenizer = Hyperprior.load(path)
            return cls._holding([single]), [frequencies], tokenizer
        parts = []
        for number, config in enumerate(json.loads(metadata["hyperpriors"])):
            start = f"{number}."
            own = {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}
            parts.append(Hyperprior.of_tensors(config, own))
        return cls._holding([part for part, _ in parts]), [rows for _, rows in parts], metadata["tokenizer"]

    @classmethod
    def _holding(cls, parts: Sequence[Hyperprior]) -> Self:
        found = cls([])
        found.parts = nn.ModuleList(parts)
        return found.eval()


def runs(factors: Sequence[int]) -> list[list[int]]:
    """Numbers of neighbouring grids of one size.

    >>> runs([32, 16, 16, 8])
    [[0], [1, 2], [3]]
    """
    return [list(levels) for _, levels in groupby(range(len(factors)), key=lambda level: factors[level])]


def upsampled(coarse: Tensor, size: Sequence[int]) -> Tensor:
    """…×h×w repeated up to *size*, a multiple of it."""
    scale = size[0] // coarse.shape[-2]
    return coarse.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


def _some(count: int, share: float, device: torch.device) -> Tensor | None:
    """A random *share* of *count* positions, or None for all."""
    return None if share >= 1 else torch.randperm(count, device=device)[: max(1, round(share * count))]
